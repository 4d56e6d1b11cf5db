"""What the harness says: messages by key, and their texts in two tables, English and Chinese.

The judgement names a message and gives its values; a sentence is made of them
only where somebody reads it, in the reader's language.
"""
