/* The role `nestor run`: one VM in the foreground. */
#ifndef NESTOR_RUN_H
#define NESTOR_RUN_H

/* The arguments after `run`; returns the exit status. */
int run_main(int argc, char *const argv[]);

#endif
