// The quantile of the beta distribution that "beta" noise levels are spaced by.
#ifndef LDM_CORE_SAMPLING_SOLVERS_BETA_H
#define LDM_CORE_SAMPLING_SOLVERS_BETA_H

namespace ldm::sampling {

// x with I_x(0.6, 0.6) = share, for 0 <= share <= 1 (I: the regularised incomplete beta function).
double beta_quantile(double share);

}  // namespace ldm::sampling

#endif
