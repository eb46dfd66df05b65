"""The task types that come with the product: in each module the parameter model and the handler together."""
