"""Show the product on real photos: how good it is with and without texts, what was searched, and why one prediction."""
