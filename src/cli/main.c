/* main.c - the only file that ends the process. */
#include <stdio.h>

int main(void)
{
    puts("vlmd " VLM_VERSION);
    return 0;
}
