"""The steps, oldest first. A step that was released is never edited: what it got wrong, the next one puts right."""
