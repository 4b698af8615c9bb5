"""The Python of lm-eval's task files (`!function`): run by consent, in a process of its own inside the sandbox."""
