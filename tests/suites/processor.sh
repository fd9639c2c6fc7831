# what: the software processor against the host's, instruction by instruction
# budget: 100
# in: default
. "$(dirname "$0")/../meson-results.sh"
run_meson_tests "$BUILD" processor
