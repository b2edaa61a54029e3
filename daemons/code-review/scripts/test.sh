# Runs the project's tests: `test_command`, or what its files suggest.
if [ -n "${test_command:-}" ]; then
    exec bash -eu -o pipefail -c "$test_command"
elif [ -f Cargo.toml ]; then
    exec cargo test
elif [ -f package.json ]; then
    exec npm test
elif compgen -G 'test*/test_*.py' > /dev/null; then
    exec python3 -m unittest discover -s "$(dirname "$(compgen -G 'test*/test_*.py' | head -n 1)")"
elif [ -f go.mod ]; then
    exec go test ./...
fi
echo "There are no tests that are known to be run: give test_command." >&2
exit 1
