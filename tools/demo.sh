#!/bin/sh
# demo.sh: start a server on the built-in model, ask it over HTTP about an example picture, and show how to go on.
# VLMD names the program.
set -eu
cd "$(dirname "$0")/.."
vlmd=${VLMD:-build/vlmd}
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$folder"' EXIT
server=
picture=models/demo/examples/three.png
question="What is in this picture?"

# The JSON of a request about a picture: body PICTURE QUESTION STREAM
body() {
    printf '{"messages":[{"role":"user","content":['
    printf '{"type":"image_url","image_url":{"url":"data:image/png;base64,%s"}},' "$(base64 -w0 "$1")"
    printf '{"type":"text","text":"%s"}]}],"stream":%s,"temperature":0,"stream_options":{"include_usage":true}}' "$2" "$3"
}

echo
echo "The model inside vlmd is a demonstration: it answers questions about a few plain shapes."
echo
echo "A server is started, asked over HTTP, and stopped: $vlmd serve demo"
"$vlmd" serve demo --listen 127.0.0.1:0 2>"$folder/log" &
server=$!
url=
for _ in $(seq 200); do
    url=$(sed -n 's/.*listening on \(http:[^ ]*\).*/\1/p' "$folder/log")
    if [ -n "$url" ] && curl -sf "$url/readyz" >/dev/null; then break; fi
    url=
    sleep 0.05
done
if [ -z "$url" ]; then
    cat "$folder/log" >&2
    exit 1
fi

echo "picture:  $picture"
echo "question: $question"
printf 'answer:   '
body "$picture" "$question" true >"$folder/body.json"
curl -sSN "$url/v1/chat/completions" -H 'Content-Type: application/json' --data-binary "@$folder/body.json" |
    tee "$folder/answer" | while IFS= read -r line; do
        # The text of each chunk, as it comes.
        printf '%s' "$(printf '%s' "$line" | sed -n 's/.*"delta":{"content":"\([^"]*\)".*/\1/p')"
    done
echo
sed -n 's/.*"usage":{"prompt_tokens":\([0-9]*\),"completion_tokens":\([0-9]*\).*"image_ms":\([0-9.]*\),"prefill_ms":\([0-9.]*\),"decode_ms":\([0-9.]*\).*/timings:  prompt \1 tokens, answer \2 tokens | picture \3 ms, prompt \4 ms, answer \5 ms/p' "$folder/answer"
grep -q 'data: \[DONE\]' "$folder/answer" || {
    echo "the answer did not come through:" >&2
    cat "$folder/answer" "$folder/log" >&2
    exit 1
}

cat <<END

Next, with the server running in another terminal ($vlmd serve demo):

  (printf '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"'; base64 -w0 $picture; printf '"}},{"type":"text","text":"How many shapes are there?"}]}]}') | curl -s http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d @-

or without one: $vlmd run -i $picture -p "$question"
END
