"""HTTP server of engine bundles: OpenAI's chat API, and a page. One engine process a bundle, one answer at a time."""
