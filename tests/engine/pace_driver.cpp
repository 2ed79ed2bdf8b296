// Calls whose costs the program is told: pairs of numbers, together and alone, one pair a call.
// Prints how many calls were the caller's alone, for each hundred of them, and the time of all.
#include "pace.h"

#include <cstdio>

int main() {
    s7::Pace pace;
    long long together = 0, alone = 0, total = 0;
    int n_calls = 0, n_alone = 0;
    while (std::scanf("%lld %lld", &together, &alone) == 2) {
        const bool is_alone = pace.is_alone();
        const long long took = is_alone ? alone : together;
        pace.took(took);
        total += took;
        n_alone += is_alone ? 1 : 0;
        if (++n_calls % 100 == 0) {
            std::printf("%d ", n_alone);
            n_alone = 0;
        }
    }
    std::printf("%lld\n", total);
    return 0;
}
