#!/usr/bin/env bash
# Measure the engine on one card, in at most eight minutes; prints one table as Markdown, and writes it to gpu.md.
#
#   tests/bench/gpu.sh [--data MIRROR] [--peer-python PYTHON] [--vllm-python PYTHON] [--minutes 8]
#   tests/bench/gpu.sh --tiny          on a processor, with a tiny model and few rows: whether the script itself works
#
# Before: pip install -e . here. PYTHON is of an environment with lm-eval[hf], and of one with vllm, of the same version
# of Python as this one, from which it takes what it lacks of this project; what is not there is left out, and the table
# says so. What `gpu.py` says at its top holds for the rest.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
exec "${PYTHON:-python}" "$here/gpu.py" "$@"
