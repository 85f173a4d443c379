#!/usr/bin/env bash
# Drives the built program as a person would: trains, is killed and resumes, evaluates, writes,
# saves a memory and goes on from it, and is given bad input. Prints one line for each check.
#
#   scripts/end_to_end.sh [KILLS]     KILLS: how often the training is killed (default 2)
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-2}

# The development profile is optimised as well, and checks for overflow. Of the whole workspace and
# with its examples, as the tests built it: without them dependencies have other features, and would
# be compiled anew.
cargo build --quiet --workspace --bins --examples
longhand="${CARGO_TARGET_DIR:-target}/debug/longhand"
longhand=$(realpath "$longhand")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

passed=0
check() { # check NAME COMMAND…
    local name=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        passed=$((passed + 1))
    else
        cat "$work/said"
        echo "error: end to end: $name"
        exit 1
    fi
}
# refuses CODE COMMAND…: exits with that code and one sentence on stderr, nothing on stdout.
refuses() {
    local code=$1 got=0
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null || got=$?
    cat "$work/err"
    [[ $got -eq $code && ! -s $work/out && -s $work/err ]] && ! grep -q "panicked" "$work/err"
}
json() { python3 -c "import json,sys; o=json.loads(sys.stdin.read().strip().splitlines()[-1]); print($1)"; }

# Text in, a model out.
"$longhand" data sample --bytes 60000 >text.txt
# AdamW: Muon's steps take several times as long in the development profile.
printf '[training]\noptimizer = { type = "adamw" }\n' >run.toml
train=("$longhand" train text.txt --recipe run.toml --tokenizer char --batch 8 --chunk 64 --steps 120
    --checkpoint-every 10 --seed 3 --json)
"${train[@]}" --out whole >whole.jsonl 2>whole.err
check "the last line says done" test "$(json 'o["done"]' <whole.jsonl)" = True
check "the loss fell" test "$(json 'o["best_valid_loss"] < 3.5' <whole.jsonl)" = True
check "an existing folder is kept" refuses 1 "${train[@]}" --out whole

# Killed at random moments and resumed, it ends in the same model.
for ((kill = 1; kill <= kills; kill++)); do
    rm -rf killed
    "${train[@]}" --out killed >killed.jsonl 2>killed.err &
    pid=$!
    # Within some ten steps of a line drawn at random: in a step or between two, in a checkpoint or
    # before the first.
    lines=$((RANDOM % 12))
    until [[ $(grep -c '"loss"' killed.jsonl) -ge $lines ]] || ! kill -0 $pid 2>/dev/null; do
        sleep 0.01
    done
    sleep "$(printf '0.%03d' $((RANDOM % 600)))"
    kill -KILL $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    if grep -q '"done":true' killed.jsonl; then
        echo "round $kill: it had ended before the kill; once more"
        kill=$((kill - 1))
        continue
    fi
    if [[ -e killed ]]; then resume=(--resume); else resume=(); fi
    "${train[@]}" "${resume[@]}" --out killed >killed.jsonl 2>killed.err
    check "killed after $lines lines and resumed, round $kill" \
        cmp whole/model.safetensors killed/model.safetensors
done

# Asked to stop at random moments, in a step, an evaluation or a sample text, it saves soon and
# resumes to the same model.
stops=("${train[@]}" --evaluate-every 20)
"${stops[@]}" --out unstopped >unstopped.jsonl 2>unstopped.err
for ((round = 1; round <= 5; round++)); do
    # The lines of the round before must not be taken for this one's.
    rm -rf stopped stopped.jsonl
    "${stops[@]}" --out stopped >stopped.jsonl 2>stopped.err &
    pid=$!
    until [[ -s stopped.jsonl ]] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
    sleep "$(printf '0.%03d' $((RANDOM % 1000)))"
    asked=$(date +%s%N)
    kill -TERM $pid 2>/dev/null || true
    code=0
    wait $pid || code=$?
    waited=$((($(date +%s%N) - asked) / 1000000))
    check "asked to stop, round $round: it ends well (code $code)" test $code -eq 0
    check "asked to stop, round $round: it ends soon ($waited ms)" test $waited -lt 5000
    "${stops[@]}" --resume --out stopped >stopped.jsonl 2>stopped.err
    check "stopped and resumed, round $round" cmp unstopped/model.safetensors stopped/model.safetensors
done

# One run at a time in a folder.
locked=("$longhand" train text.txt --tokenizer char --json --out locked)
"${locked[@]}" --steps 100000 >locked.jsonl 2>locked.err &
pid=$!
until [[ -s locked.jsonl ]] || ! kill -0 $pid 2>/dev/null; do sleep 0.01; done
check "a second run in the folder" refuses 1 "${locked[@]}" --force
kill -KILL $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
check "a killed run keeps nobody out" "${locked[@]}" --steps 2 --force

# A disk that fills up while a checkpoint is written: one sentence, and with room it goes on.
mkdir disk
if mount -t tmpfs -o size=60m none disk 2>/dev/null; then
    trap 'umount "$work/disk"; rm -rf "$work"' EXIT
    "${train[@]}" --out disk/m >full.jsonl 2>full.err && code=0 || code=$?
    check "a full disk" bash -c "[[ $code -eq 1 && \$(wc -l <full.err) -eq 1 ]] && grep -q 'free some space' full.err"
    mount -o remount,size=400m disk
    "${train[@]}" --resume --out disk/m >full.jsonl 2>full.err
    check "with room it ends in the same model" cmp whole/model.safetensors disk/m/model.safetensors
else
    echo "skipped: a full disk (this user may not mount one)"
fi

# The model in use.
"$longhand" eval whole --data text.txt --split valid --json >eval.json
check "eval gives a loss" test "$(json '0 < o["loss"] < 3 and o["tokens"] > 1000' <eval.json)" = True
"$longhand" eval whole --data text.txt --split valid --window 64 --json >window.json
check "windows cost context" test "$(json 'o["loss"] > 0' <window.json)" = True
"$longhand" generate whole --prompt "One " --max-tokens 80 --seed 5 >one.txt 2>/dev/null
"$longhand" generate whole --prompt "One " --max-tokens 80 --seed 5 >two.txt 2>/dev/null
check "the same seed writes the same text" cmp one.txt two.txt
check "it writes" test -s one.txt
head -n 20 text.txt >piece.txt
check "ids and back" bash -c "'$longhand' data tokenize whole <piece.txt | '$longhand' data detokenize whole | cmp - piece.txt"
"$longhand" memory save whole --text piece.txt --out memory.safetensors 2>/dev/null
check "a memory is shown" "$longhand" memory show memory.safetensors
"$longhand" generate whole --memory memory.safetensors --max-tokens 200 --temperature 0 >from-memory.txt 2>/dev/null
"$longhand" generate whole --prompt - --max-tokens 200 --temperature 0 <piece.txt >from-text.txt 2>/dev/null
check "from its memory it goes on as from the text" bash -c "[[ -s from-memory.txt ]] && cmp from-memory.txt <(tail -c \$(stat -c %s from-memory.txt) from-text.txt)"
check "every preset is one model" "$longhand" bench equality --preset xlstm

# Bad input: one sentence each.
: >empty.txt
head -c 3000 /dev/urandom >binary.bin
printf 'good \xff\xfe bad' >invalid.txt
check "empty file" refuses 1 "$longhand" train empty.txt --out bad
check "binary file" refuses 1 "$longhand" train binary.bin --out bad
check "invalid UTF-8" refuses 1 "$longhand" train invalid.txt --out bad
check "no such file" refuses 1 "$longhand" train nowhere.txt --out bad
check "negative temperature" refuses 2 "$longhand" generate whole --prompt a --temperature -1
check "no such folder" refuses 1 "$longhand" generate nowhere --prompt a
cp -r whole broken && head -c 1000 whole/model.safetensors >broken/model.safetensors
check "truncated weights" refuses 1 "$longhand" generate broken --prompt a
cp whole/model.safetensors broken/ && sed -i 's/"width"/"breadth"/' broken/config.json
check "unknown key" refuses 1 "$longhand" generate broken --prompt a
check "unknown verb" refuses 2 "$longhand" sing
echo "$passed passed, 0 failed"
