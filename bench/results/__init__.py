"""The results folder: records, plans, ledger, locks, logs. Everything that is read again has its format here."""
