/* What the worker's log says when a fault of Nestor's own ends it. */
#ifndef NESTOR_SERVICE_CRASH_H
#define NESTOR_SERVICE_CRASH_H

/* Name the signal in the log, then end by it, so that the parent sees it. */
void crash_report(void);

#endif
