"""Tasks of lm-evaluation-harness: a YAML file each, and beside it what reads its rows from local files or the Hub.

The YAML files are the harness's own format: ``lm_eval --include_path <this folder> --tasks mgsm
--metadata '{"data": "DIR", "language": "de"}'`` runs one without Carrick around it.
"""
