"""``python -m bench.train_universal NETWORK``: see bench/training/universal.py, which needs torch."""

if __name__ == "__main__":
    from bench.training.universal import main

    raise SystemExit(main())
