"""Models of other tools that are not here, and what serves instead: `--model NAME` says so in its error."""

from __future__ import annotations

from collections.abc import Mapping

_INSTEAD: Mapping[str, tuple[str, ...]] = {
    "llama.cpp's server speaks OpenAI's API: --model openai --model_args base_url=http://HOST:PORT/v1,model=NAME": (
        "gguf",
        "ggml",
    ),
    "SGLang's server speaks OpenAI's API: --model openai --model_args base_url=http://HOST:PORT/v1,model=NAME": (
        "sglang",
        "sglang-generate",
    ),
    "no plugin speaks this API; one that does can be installed (`harness new plugin`)": (
        "anthropic-chat-completions",
        "anthropic-chat",
        "textsynth",
        "watsonx_llm",
        "anthropic-completions",
    ),
    "vLLM's server shows pictures: --model openai --model_args base_url=http://HOST:PORT/v1,model=NAME": ("vllm-vlm",),
    "--model hf takes the same arguments": (
        "hf-causal",
        "hf-causal-experimental",
    ),
    "--model hf runs encoder-decoder models, too": ("hf-seq2seq",),
    "--model openai-chat-completions takes the same arguments": ("openai-chat",),
    "export the checkpoint for transformers: --model hf --model_args pretrained=DIR": (
        "nemo_lm",
        "megatron_lm",
    ),
    "the checkpoint that was converted runs here: --model hf --model_args pretrained=DIR": (
        "openvino",
        "optimum",
        "onnxruntime",
        "onnxruntime-genai",
        "winml",
    ),
    "the checkpoint that was compiled runs here: --model hf --model_args pretrained=DIR": ("neuronx",),
    "the checkpoint itself runs here: --model hf --model_args pretrained=DIR,dtype=bfloat16 --device cpu": ("ipex",),
    "a server on the device speaks OpenAI's API: --model openai --model_args base_url=URL,model=NAME": ("habana",),
    "a plugin can derive from the hf model (`harness new plugin`)": ("steered",),
    "transformers runs Mamba: --model hf --model_args pretrained=DIR": ("mamba_ssm",),
    "TensorRT-LLM's server speaks OpenAI's API: --model openai --model_args base_url=http://HOST:PORT/v1,model=NAME": (
        "trtllm",
    ),
    "LiteLLM's server speaks OpenAI's API: --model openai --model_args base_url=http://HOST:PORT/v1,model=NAME": (
        "litellm",
        "litellm-chat",
        "litellm-chat-completions",
    ),
    "--model hf_vlm --model_args pretrained=DIR sees images, --model hf reads text": ("hf-mistral3",),
    "no model here hears audio; a server that does: --model openai --model_args base_url=URL,model=NAME": (
        "hf-audiolm-qwen",
    ),
}
MODELS_ELSEWHERE: Mapping[str, str] = {name: instead for instead, names in _INSTEAD.items() for name in names}
