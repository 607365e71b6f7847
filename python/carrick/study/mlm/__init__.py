"""MLM as in the paper: Llama 3.2 on MMLU-ProX, English to Spanish and Hindi."""
