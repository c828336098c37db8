"""The items of a model card in words: section and title of each, in short and in our own words.

Ids and numbers, with their sources, stand in riskpred/config/card.py, by which card.yaml is checked.
"""

from typing import Final

from riskpred.report.language import text

TRIPOD_AI: Final = {
    "title": (text("Title"), text("Kind of study, population, outcome")),
    "abstract": (text("Abstract"), text("Summary")),
    "context": (text("Background"), text("Healthcare context and why a model is made")),
    "target_population": (text("Background"), text("Whom it is meant for, in which step of care, and who uses it")),
    "inequalities": (text("Background"), text("Known inequalities of health between groups")),
    "objectives": (text("Objectives"), text("Objectives: development, evaluation or both")),
    "data_sources": (text("Data"), text("Where the data come from and how representative they are")),
    "dates": (text("Data"), text("Dates: entry and end of follow-up")),
    "setting": (text("Participants"), text("Setting and number of centres")),
    "eligibility": (text("Participants"), text("Who was eligible")),
    "treatments": (text("Participants"), text("Treatments received and how they were handled")),
    "data_preparation": (text("Data preparation"), text("Preparation and checks of the data")),
    "outcome_definition": (text("Outcome"), text("Outcome, horizon and how it was assessed")),
    "outcome_assessors": (text("Outcome"), text("Who assessed a subjective outcome")),
    "outcome_blinding": (text("Outcome"), text("Whether the assessment was blinded")),
    "predictor_choice": (text("Predictors"), text("How predictors were chosen")),
    "predictor_definitions": (text("Predictors"), text("Predictors, with how and when they are measured")),
    "predictor_assessors": (text("Predictors"), text("Who assessed subjective predictors")),
    "sample_size": (text("Sample size"), text("How the size of the study was arrived at")),
    "missing_data": (text("Missing data"), text("How missing data are handled")),
    "data_use": (text("Analytical methods"), text("How the data were used for development and evaluation")),
    "predictor_handling": (text("Analytical methods"), text("How predictors enter the model")),
    "model_building": (text("Analytical methods"), text("Kind of model, how it was built and validated internally")),
    "clusters": (text("Analytical methods"), text("Differences between sites")),
    "performance_measures": (text("Analytical methods"), text("Measures of performance")),
    "updating_method": (text("Analytical methods"), text("Updating of the model, recalibration for instance")),
    "predictions_made": (text("Analytical methods"), text("How predictions are computed")),
    "class_imbalance": (text("Class imbalance"), text("Handling of class imbalance")),
    "fairness": (text("Fairness"), text("What was done about fairness")),
    "model_output": (text("Model output"), text("What the model gives, and thresholds")),
    "training_versus_evaluation": (text("Training versus evaluation"), text("Differences between these data")),
    "ethical_approval": (text("Ethical approval"), text("Ethical approval and consent")),
    "funding": (text("Open science"), text("Funding and the role of funders")),
    "conflicts": (text("Open science"), text("Conflicts of interest")),
    "protocol": (text("Open science"), text("Where the protocol is")),
    "registration": (text("Open science"), text("Registration")),
    "data_sharing": (text("Open science"), text("Availability of the data")),
    "code_sharing": (text("Open science"), text("Availability of the code")),
    "patient_involvement": (text("Patient and public involvement"), text("Involvement of patients and the public")),
    "flow": (text("Results: participants"), text("Flow of participants, with and without the outcome")),
    "characteristics": (text("Results: participants"), text("Characteristics, and how much was missing")),
    "comparison": (text("Results: participants"), text("Evaluation people beside development people")),
    "numbers": (text("Results: model development"), text("Participants and events in each analysis")),
    "specification": (text("Results: model specification"), text("The full model, and how to have it")),
    "performance": (text("Results: model performance"), text("Performance with intervals, in key groups too")),
    "heterogeneity": (text("Results: model performance"), text("Performance across sites")),
    "updating_results": (text("Results: model updating"), text("The updated model and its performance")),
    "interpretation": (text("Discussion"), text("Interpretation, fairness among it")),
    "limitations": (text("Discussion"), text("Limitations")),
    "poor_inputs": (text("Discussion: usability"), text("What to do with input that is poor or not there")),
    "user_interaction": (text("Discussion: usability"), text("What users must do and know")),
    "next_steps": (text("Discussion: usability"), text("Next steps")),
}
"""Item -> (section, title)."""

HTI_1: Final = {
    "developer": (text("Details and output"), text("Developer, with contact")),
    "funding": (text("Details and output"), text("Funding of the technical implementation")),
    "output_value": (text("Details and output"), text("What the output says")),
    "output_type": (text("Details and output"), text("Type of output")),
    "intended_use": (text("Purpose"), text("Intended use")),
    "intended_population": (text("Purpose"), text("Intended patients")),
    "intended_users": (text("Purpose"), text("Intended users")),
    "decision_role": (text("Purpose"), text("Intended role in decisions: informs, augments or replaces")),
    "cautioned_use": (text("Cautioned out-of-scope use"), text("Tasks, situations or people it is not for")),
    "known_risks": (text("Cautioned out-of-scope use"), text("Known risks, inappropriate uses and limitations")),
    "training_criteria": (text("Development and input features"), text("Who is in the training data and who not")),
    "demographic_inputs": (
        text("Development and input features"),
        text(
            "Use of race, ethnicity, language, sexual orientation, gender identity, sex, date of birth, social "
            "determinants and health status as input"
        ),
    ),
    "training_representativeness": (
        text("Development and input features"),
        text("Demographic representativeness of the training data"),
    ),
    "training_relevance": (
        text("Development and input features"),
        text("Relevance of the training data to where it is used"),
    ),
    "fairness_approach": (text("Process to ensure fairness"), text("How it is ensured that the output is fair")),
    "bias_management": (text("Process to ensure fairness"), text("How bias is managed, reduced or eliminated")),
    "external_source": (text("External validation process"), text("Data and setting of external validation")),
    "external_party": (text("External validation process"), text("Who did the external validation")),
    "external_representativeness": (
        text("External validation process"),
        text("Demographic representativeness of the external data"),
    ),
    "external_process": (text("External validation process"), text("Process of external validation")),
    "internal_validity": (text("Quantitative measures of performance"), text("Validity in data of the same source")),
    "internal_fairness": (text("Quantitative measures of performance"), text("Fairness in data of the same source")),
    "external_validity": (text("Quantitative measures of performance"), text("Validity in data of another source")),
    "external_fairness": (text("Quantitative measures of performance"), text("Fairness in data of another source")),
    "outcome_evaluations": (
        text("Quantitative measures of performance"),
        text("Evaluations of what its use did to outcomes"),
    ),
    "validity_monitoring": (text("Ongoing maintenance"), text("How and how often validity is monitored")),
    "local_validity": (text("Ongoing maintenance"), text("Validity in local data")),
    "fairness_monitoring": (text("Ongoing maintenance"), text("How and how often fairness is monitored")),
    "local_fairness": (text("Ongoing maintenance"), text("Fairness in local data")),
    "update_process": (text("Update and validation schedule"), text("How and how often it is updated")),
    "correction_frequency": (
        text("Update and validation schedule"),
        text("How often it is corrected where validity or fairness are at risk"),
    ),
}
"""Attribute -> (section, title)."""
