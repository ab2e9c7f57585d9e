"""The protocol of the AI SDK: the requests of its chat, and its UI message stream."""
