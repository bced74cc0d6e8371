#!/bin/sh
# demo.sh: ask the built-in model about its example pictures.  VLMD names the program.
set -eu
cd "$(dirname "$0")/.."
vlmd=${VLMD:-build/vlmd}
questions=models/demo/examples/questions.txt

echo
echo "The model inside vlmd is a demonstration: it answers questions about simple drawings."
# Each line: picture, a tab, question.
while IFS="$(printf '\t')" read -r picture question; do
    echo
    echo "picture:  models/demo/examples/$picture"
    echo "question: $question"
    printf 'answer:   '
    "$vlmd" run demo -i "models/demo/examples/$picture" -p "$question" --timings </dev/null
done <"$questions"
echo
echo "Next: $vlmd run -i PICTURE -p QUESTION, $vlmd run for a chat, $vlmd help"
