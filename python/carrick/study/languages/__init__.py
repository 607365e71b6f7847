"""Study 1: one LoRA adapter a language, merged, against one trained on all languages."""
