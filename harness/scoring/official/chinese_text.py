"""What scripts for Chinese texts have in common."""

from __future__ import annotations

import string

PUNCTUATION = frozenset(
    string.punctuation
    + "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､"
    + "、〃》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
"""What LongBench leaves out of a text (THUDM/LongBench, `LongBench/metrics.py`, normalize_zh_answer), and after it
LexEval (CSHaitao/LexEval, `code/evaluation/process.py`), CLongEval and InfiniteBench (OpenBMB/InfiniteBench,
`src/compute_scores.py`). 《 and · are not in it."""
