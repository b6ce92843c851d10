"""Show the product on real photos: accuracy with and without texts, what was searched, and one prediction explained."""
