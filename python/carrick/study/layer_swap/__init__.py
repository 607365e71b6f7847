"""Study 3: a math expert and a language expert of a small Llama, and what layer swapping makes of them (XLT)."""
