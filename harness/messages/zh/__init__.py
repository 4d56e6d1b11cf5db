"""The texts in Chinese, one module a subject."""
