"""XLT as in the paper: four language models, English math and Swahili, Bengali, Telugu."""
