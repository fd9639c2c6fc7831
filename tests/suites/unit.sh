# what: the unit tests: chips, tables, parsers, one concept each
# budget: 100
# in: default
. "$(dirname "$0")/../meson-results.sh"
run_meson_tests "$BUILD" unit
