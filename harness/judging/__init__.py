"""Lets models judge the answers of finished runs. It starts from the log, so that it can be repeated.

    result = judge(JudgeSpec(("runs/NAME",), "quality_en", (JudgeModel("openai", {"model": "NAME"}),)))
    result.judgements[0].report, result.panel

A folder of judgements is a run folder like any other: it goes on where it stopped, and `harness report` and
`harness compare` read it.
"""
