# what: devices and parsers given random input, repeatably
# budget: 20
# in: default
. "$(dirname "$0")/../meson-results.sh"
run_meson_tests "$BUILD" fuzz
