#!/usr/bin/env bash
# From a base model to one that may ship, trained and exported by ms-swift's commands, each step measured:
#
#     bash my_swift_loop.sh                          # the demo model, on the CPU, in some minutes
#     bash my_swift_loop.sh DIR qwen3 qwen3          # your own: its folder, ms-swift's --model_type and --template
#
# LoRA fine-tuning, measured as it goes and compared with the base; DPO on preferences; the gate; export, merged and
# quantised to four bits; and the gate again, the quantised model against the merged one. A gate that fails ends it.
# Put your own rows and tasks in the place of my_swift_loop_rows.py and the two task files. It needs ms-swift,
# 'harness-eval[peft,training]', and bitsandbytes for the last step, which is left out without it.
set -euo pipefail
cd "$(dirname "$0")"

model=${1:-$(python -c 'from harness_plugins.models.demo import WEIGHTS; print(WEIGHTS)')}
kind="--model_type ${2:-qwen2} --template ${3:-chatml}"
tasks=my_swift_loop_sums.yaml,my_swift_loop_pairs.yaml
training="--tuner_type lora --target_modules all-linear --lora_rank 16 --lora_alpha 32 --torch_dtype float32
    --per_device_train_batch_size 32 --gradient_accumulation_steps 1 --gradient_checkpointing false --seed 1
    --save_only_model true --report_to none --add_version false"

# The chat template of the tokenizer writes the prompts here, and --template those of training: both have to say the same.
# Compare `harness show my_swift_loop_sums.yaml --model hf --model_args pretrained=DIR --apply_chat_template`.
measure() {  # NAME [ARGUMENTS]: a run of this name
    harness --model hf --tasks "$tasks" --apply_chat_template --output runs --device cpu --name "$@"
}
run() {  # NAME: its folder
    echo runs/*-"$1"-????????
}

python my_swift_loop_rows.py

# 1. Fine-tune; is the adapter better than its base, beyond chance?
steps=60
swift sft --model "$model" $kind $training --dataset my_swift_loop_sft.jsonl --split_dataset_ratio 0.02 \
    --max_steps $steps --eval_steps 30 --save_steps $steps --learning_rate 3e-3 --output_dir out/sft \
    --external_plugins my_swift_loop_callback.py --callbacks harness
sft=out/sft/checkpoint-$steps
measure base --model_args "pretrained=$model,dtype=float32"
measure sft --model_args "pretrained=$model,dtype=float32" --peft "$sft"
harness compare "$(run base)" "$(run sft)"

# 2. Prefer; did the rewards of the pairs move?
swift export --adapters "$sft" --merge_lora true --output_dir out/sft-merged --exist_ok true
steps=12
swift rlhf --rlhf_type dpo --model out/sft-merged $kind $training --dataset my_swift_loop_preferences.jsonl \
    --split_dataset_ratio 0 --max_steps $steps --save_steps $steps --learning_rate 3e-4 --beta 0.1 --output_dir out/dpo
dpo=out/dpo/checkpoint-$steps
measure dpo --model_args pretrained=out/sft-merged,dtype=float32 --peft "$dpo"
harness compare "$(run sft)" "$(run dpo)"
harness judge "$(run sft)" "$(run dpo)" --rubric preference_en --tasks my_swift_loop_sums --judge "${JUDGE:-dummy}"

# 3. May it take the place of what is there? And what is exported, the place of what was trained?
gate() {  # BASELINE CURRENT
    harness gate --baseline "$(run "$1")" --current "$(run "$2")" --policy my_swift_loop_policy.yaml --explain
}
gate sft dpo
swift export --adapters "$dpo" --merge_lora true --output_dir out/merged --exist_ok true
measure merged --model_args pretrained=out/merged,dtype=float32
gate dpo merged
if python -c 'import bitsandbytes' 2>/dev/null; then  # or: --quant_method gptq --dataset my_swift_loop_sft.jsonl
    swift export --model out/merged $kind --quant_method bnb --quant_bits 4 --output_dir out/4bit --exist_ok true
    measure 4bit --model_args pretrained=out/4bit
    gate merged 4bit
else
    echo "bitsandbytes is not installed: nothing is quantised"
fi
