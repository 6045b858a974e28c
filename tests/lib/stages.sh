# Runs stages one after the other, counts what they report and prints the sum. Sourced by tests/run.
#
# A stage counts as one check, unless it ran Rust tests: then these count. A line "SKIPPED: reason" in its
# output counts as one skip. Needs $LOG, a directory for the output of the stages.

PASSED=0 FAILED=0 SKIPPED=0
FAILURES=()

# stage TITLE COMMAND...: a failing stage does not stop the next one.
stage() {
    local title=$1 start=$SECONDS status=0 shown; shift
    printf '\n==> %s\n' "$title"
    rm -f "$LOG/pipe"
    mkfifo "$LOG/pipe"
    tee "$LOG/stage" <"$LOG/pipe" & shown=$!
    "$@" >"$LOG/pipe" 2>&1 || status=$?
    wait "$shown" # the last lines of a stage must stand above the next heading
    count "$title" $status
    printf '<== %s: %s in %d s\n' "$title" "$([ $status = 0 ] && echo passed || echo FAILED)" $((SECONDS - start))
}

count() {
    local title=$1 status=$2 passed failed ignored
    read -r passed failed ignored < <(test_results "$LOG/stage")
    SKIPPED=$((SKIPPED + ignored + $(grep -c '^SKIPPED: ' "$LOG/stage")))
    if [ $((passed + failed)) = 0 ] && [ "$status" = 0 ]; then passed=1; fi
    if [ "$failed" = 0 ] && [ "$status" != 0 ]; then failed=1; fi
    PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed))
    [ "$failed" = 0 ] || FAILURES+=("$title")
}

# The sums over all summaries of Rust's test runner: passed, failed, ignored.
test_results() {
    sed -nE 's/^test result: [a-zA-Z]+\. ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored.*/\1 \2 \3/p' "$1" |
        awk '{ p += $1; f += $2; i += $3 } END { print p + 0, f + 0, i + 0 }'
}

skip() {
    printf '\nSKIPPED: %s\n' "$1"
    SKIPPED=$((SKIPPED + 1))
}

# The last line of the run; the status is that of the whole run.
summary() {
    printf '\ntotal time %d s\n' $SECONDS
    [ ${#FAILURES[@]} = 0 ] || printf 'failed: %s\n' "${FAILURES[@]}"
    printf '%d passed, %d failed, %d skipped\n' $PASSED $FAILED $SKIPPED
    [ $FAILED = 0 ]
}
