"""The stream pipeline: enrich (phase 1), fold (phase 2), export, and the engine that runs them."""
