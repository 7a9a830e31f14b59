"""What a manifest says about held-out texts of two files."""

AGREEMENT = {
    "worst": "others.csv",
    "files": [
        {
            "data": name,
            "texts": texts,
            "measure": "correlation of similarities",
            "points": points,
            "low": points - 5,
            "high": points + 5,
            "source": 100.0,
            "lost": 100 - points,
            "lost_low": 95 - points,
            "lost_high": 105 - points,
            "companions": [
                {"name": "texts whose nearest neighbor stays", "value": 66.5, "unit": "%"},
                {"name": "mean difference of scores", "value": 0.01234, "unit": ""},
            ],
            "meaning": f"{name[0].upper()} search finds less.",
        }
        for name, texts, points in (("tickets.csv", 60, 91.0), ("others.csv", 40, 80.0))
    ],
}
