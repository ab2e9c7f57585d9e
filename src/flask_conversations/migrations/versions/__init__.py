"""The steps, oldest first. A released step is never edited: the next one corrects its mistakes."""
