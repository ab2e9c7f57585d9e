"""The protocol of the AI SDK: what its chat sends, and the stream of chunks that it reads."""
