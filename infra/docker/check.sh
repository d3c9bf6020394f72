#!/bin/sh
# Ends with 0 if the installed product codes twenty synthetic reports. Arguments go to the job: `check.sh cluster=gpu_box`.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python -m jobs.make_corpus records=20 text.median_words=40 output.path="$work/reports"
python -m jobs.code_reports input.path="$work/reports" input.id=record_id output.path="$work/coded" "$@"
python -m jobs.status output.path="$work/coded"
