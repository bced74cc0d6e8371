#!/bin/sh
# demo.sh: ask the built-in model the example questions of its model card.  VLMD names the program.
set -eu
cd "$(dirname "$0")/.."
vlmd=${VLMD:-build/vlmd}
tab=$(printf '\t')

echo
echo "The model inside vlmd is a demonstration: it answers questions about a few plain shapes."
# Rows of the card's table: | `examples/three.png` | What is in this picture? | ... |
sed -n "s/^| \`\(examples\/[^\`]*\)\` | \([^|]*\) |.*/models\/demo\/\1$tab\2/p" models/demo/README.md |
    while IFS="$tab" read -r picture question; do
        echo
        echo "picture:  $picture"
        echo "question: $question"
        printf 'answer:   '
        "$vlmd" run demo -i "$picture" -p "$question" --timings </dev/null
    done
echo
echo "Next: $vlmd run -i PICTURE -p QUESTION, $vlmd run for a chat, $vlmd help"
