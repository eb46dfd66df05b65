"""The migrations, in two lines: `ledger/`, and `business/`. `ledger.schema` runs them."""
