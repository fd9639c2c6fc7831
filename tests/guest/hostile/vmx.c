#include "hostile.h"
const struct chapter vmx_chapters[] = { { 0 } };
