"""The platform's words as plain values. No input or output, no framework; everything else may import it."""
