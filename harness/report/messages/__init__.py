"""What reports say, in English and in Chinese: one table each, with the same keys."""
