/* Numbers at random, the same for the same seed: the program sets rng, to anything but 0. */
#include <stdint.h>

static uint64_t rng;

static uint32_t any(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (uint32_t)(rng >> 20);
}

static long below(long n)
{
	return n <= 0 ? 0 : any() % n;
}
