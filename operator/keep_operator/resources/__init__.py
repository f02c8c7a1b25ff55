"""SHAPES: what users write and read, as pydantic models, and the CRDs generated from them."""
