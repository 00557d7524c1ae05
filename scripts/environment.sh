# Sourced by the other scripts: a virtual environment with what they need.
#
# YOLOGRAPH_VENV  folder of the environment (default: .venv in the checkout); made when it is missing
# PYTHON          the Python 3.11 or newer to make it with (default: the first one found)

# Print the name of a Python that is new enough.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  echo "error: no Python 3.11 or newer was found; install one, or name it: PYTHON=/path/to/python3 bash $0" >&2
  return 2
}

# Make the environment if it is missing, and install the given requirements files into it with plain pip.
# Sets ENV_PYTHON to its interpreter.
prepare_environment() {
  local folder=${YOLOGRAPH_VENV:-.venv} python requirements arguments=()
  if [ ! -x "$folder/bin/python" ]; then
    python=$(find_python) || return
    echo "making the virtual environment $folder with $("$python" --version)"
    if ! "$python" -m venv "$folder"; then
      rm -rf "$folder"
      echo "error: $python cannot make virtual environments; install its venv package (Debian: python3-venv)" >&2
      return 2
    fi
  fi
  ENV_PYTHON=$folder/bin/python
  for requirements in "$@"; do
    arguments+=(-r "$requirements")
  done
  echo "installing $* into $folder (the first time takes minutes: torch is large)"
  "$ENV_PYTHON" -m pip install --quiet --disable-pip-version-check "${arguments[@]}"
}
