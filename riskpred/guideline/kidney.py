"""Estimated glomerular filtration rate from creatinine, by the race-free CKD-EPI equation of 2021."""

_FLOOR = {"female": (0.7, -0.241, 1.012), "male": (0.9, -0.302, 1.0)}


def ckd_epi_2021(creatinine_mg_dl: float, age_years: float, sex: str) -> float:
    """eGFR in mL/min/1.73 m2.

    Source: Inker LA, Eneanya ND, Coresh J, et al. 2021, N Engl J Med 385:1737-1749.
    Example:
        >>> round(ckd_epi_2021(1.0, 50, "male"))
        92
    """
    kappa, alpha, factor = _FLOOR[sex]
    ratio = creatinine_mg_dl / kappa
    return float(142 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.2 * 0.9938**age_years * factor)
