"""Patterns of keys and tokens whose issuers mark them: a fixed prefix, then letters of a given
length.

The formats are those of the rules of gitleaks (github.com/gitleaks/gitleaks, config/gitleaks.toml,
MIT licence, copyright 2019 Zachary Rice) and of the documentation of the issuers. Lengths are
bounded, so that no text makes the search slow.
"""

from __future__ import annotations

# Kind -> (prefix, pattern of what follows). No letter, digit or underscore precedes a prefix.
_WORD, _NAME = r"[A-Za-z0-9]", r"[A-Za-z0-9_-]"
ISSUED: tuple[tuple[str, str, str], ...] = (
    ("age_key", "AGE-SECRET-KEY-1", "[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}"),
    ("alibaba_key", "LTAI", _WORD + r"{20}\b"),
    ("anthropic_key", "sk-ant-", _NAME + "{20,200}"),
    ("openai_key", "sk-", "(?:proj|svcacct|admin|or-v1)-" + _NAME + "{20,200}"),
    ("openai_key", "sk-", _WORD + r"{32,100}(?![\w-])"),
    ("openai_key", "sess-", _WORD + r"{40}\b"),
    ("huggingface_token", "hf_", _WORD + r"{30,60}\b"),
    ("huggingface_token", "api_org_", _WORD + r"{30,60}\b"),
    ("aws_key", "AKIA", r"[A-Z2-7]{16}\b"),
    ("aws_key", "ASIA", r"[A-Z2-7]{16}\b"),
    ("aws_key", "ABIA", r"[A-Z2-7]{16}\b"),
    ("aws_key", "ACCA", r"[A-Z2-7]{16}\b"),
    ("aws_key", "ABSK", "[A-Za-z0-9+/]{109,269}={0,2}"),
    *(("github_token", prefix, _WORD + r"{36,255}\b") for prefix in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    ("github_token", "github_pat_", r"[A-Za-z0-9_]{50,255}\b"),
    *(
        ("gitlab_token", prefix, r"[A-Za-z0-9_.-]{20,300}")
        for prefix in ("glpat-", "gldt-", "glft-", "glrt-", "glcbt-", "glptt-", "glimt-", "gloas-", "glsoat-",
            "glffct-")
    ),
    *(
        ("gitlab_token", prefix, r"[A-Za-z0-9_.-]{20,300}")
        for prefix in ("glagent-",)
    ),
    ("gitlab_token", "GR1348941", _NAME + "{20,50}"),
    ("slack_token", "xox", r"[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{20,200}"),
    ("slack_token", "xapp-", r"[0-9]-[A-Z0-9]{5,20}-[0-9]{5,20}-[a-z0-9]{20,100}"),
    ("slack_webhook", "hooks.slack.com/", r"(?:services|workflows|triggers)/[A-Za-z0-9+/]{30,80}"),
    ("discord_webhook", "discord.com/api/webhooks/", r"[0-9]{15,22}/[A-Za-z0-9_-]{50,100}"),
    *(("stripe_key", f"{kind}_{mode}_", _WORD + r"{10,200}\b") for kind in ("sk", "rk") for mode in ("live",
            "test", "prod")),
    ("stripe_key", "whsec_", r"[A-Za-z0-9+/=]{30,80}"),
    ("google_key", "AIza", r"[A-Za-z0-9_-]{35}(?![\w-])"),
    ("google_secret", "GOCSPX-", _NAME + "{28}"),
    ("google_token", "ya29.", r"[A-Za-z0-9_-]{30,300}"),
    ("npm_token", "npm_", _WORD + r"{36}\b"),
    ("pypi_token", "pypi-AgE", _NAME + "{50,1000}"),
    ("rubygems_token", "rubygems_", r"[a-f0-9]{48}\b"),
    *(("digitalocean_token", prefix, r"[a-f0-9]{64}\b") for prefix in ("dop_v1_", "doo_v1_", "dor_v1_")),
    ("sendgrid_key", "SG.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    *(("shopify_token", prefix, r"[a-fA-F0-9]{32}\b") for prefix in ("shpat_", "shpca_", "shppa_", "shpss_")),
    ("square_token", "sq0atp-", _NAME + "{22,60}"),
    ("square_token", "sq0csp-", _NAME + "{22,60}"),
    ("mailgun_key", "key-", r"[a-f0-9]{32}\b"),
    ("brevo_key", "xkeysib-", r"[a-f0-9]{64}-[A-Za-z0-9]{16}\b"),
    ("postman_key", "PMAK-", r"[a-fA-F0-9]{24}-[a-fA-F0-9]{34}\b"),
    ("linear_key", "lin_api_", _WORD + r"{40}\b"),
    ("pulumi_token", "pul-", r"[a-f0-9]{40}\b"),
    ("databricks_token", "dapi", r"[a-f0-9]{32}(?:-[0-9])?\b"),
    ("docker_token", "dckr_pat_", _NAME + "{27,60}"),
    ("grafana_token", "glsa_", r"[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}\b"),
    ("grafana_token", "glc_", r"[A-Za-z0-9+/]{32,400}={0,3}"),
    ("vault_token", "hvs.", _NAME + "{24,300}"),
    ("vault_token", "hvb.", _NAME + "{90,300}"),
    ("sentry_token", "sntryu_", r"[a-f0-9]{64}\b"),
    ("sentry_token", "sntrys_", r"[A-Za-z0-9+/=_]{60,500}"),
    *(("planetscale_token", prefix, r"[\w=.-]{32,64}") for prefix in ("pscale_tkn_", "pscale_oauth_",
            "pscale_pw_")),
    ("atlassian_token", "ATATT3", r"[A-Za-z0-9_=-]{60,250}"),
    ("atlassian_token", "ATCTT3", r"[A-Za-z0-9_=-]{60,250}"),
    ("artifactory_key", "AKCp", _WORD + r"{60,80}\b"),
    ("adobe_secret", "p8e-", _WORD + r"{32}\b"),
    ("dynatrace_token", "dt0c01.", r"[A-Za-z0-9]{24}\.[A-Za-z0-9]{64}\b"),
    ("duffel_token", "duffel_", r"(?:test|live)_[A-Za-z0-9_=-]{43}"),
    ("easypost_token", "EZAK", _WORD + r"{54}\b"),
    ("easypost_token", "EZTK", _WORD + r"{54}\b"),
    ("figma_token", "figd_", _NAME + "{35,60}"),
    ("heroku_key", "HRKU-", _NAME + "{36,80}"),
    ("newrelic_key", "NRAK-", r"[A-Z0-9]{27}\b"),
    ("newrelic_key", "NRII-", r"[A-Za-z0-9-]{32}"),
    ("nuget_key", "oy2", r"[a-z0-9]{43}\b"),
    ("nvidia_key", "nvapi-", _NAME + "{60,80}"),
    ("groq_key", "gsk_", _WORD + r"{52}\b"),
    ("replicate_token", "r8_", _WORD + r"{37}\b"),
    ("perplexity_key", "pplx-", _WORD + r"{40,60}\b"),
    ("xai_key", "xai-", _WORD + r"{70,90}\b"),
    ("notion_token", "ntn_", _WORD + r"{40,50}\b"),
    ("notion_token", "secret_", _WORD + r"{43}\b"),
    ("openshift_token", "sha256~", r"[\w-]{43}(?![\w-])"),
    ("azure_key", "AccountKey=", r"[A-Za-z0-9+/]{86}=="),
    ("flyio_token", "fo1_", r"[\w-]{43}(?![\w-])"),
    ("akamai_token", "akab-", r"[a-z0-9]{16}-[a-z0-9]{16}\b"),
    ("aws_key", "amzn.mws.", r"[a-z0-9]{8}-(?:[a-z0-9]{4}-){3}[a-z0-9]{12}\b"),
    ("aws_key", "bedrock-api-key-", r"[A-Za-z0-9+/=]{32,1000}"),
    ("bitbucket_token", "BBDC-", r"[A-Za-z0-9+/=_-]{40,60}"),
    ("bitbucket_token", "ATBB", _WORD + r"{28,40}(?![A-Za-z0-9_])"),
    ("clojars_token", "CLOJARS_", r"[a-f0-9]{60}\b"),
    *(("cloudflare_token", prefix, _NAME + "{40,60}") for prefix in ("cfat_", "cfut_")),
    ("defined_token", "dnkey-", _NAME + "{60,120}"),
    ("discord_webhook", "discordapp.com/api/webhooks/", r"[0-9]{15,22}/[A-Za-z0-9_-]{50,100}"),
    ("docker_token", "dckr_oat_", _NAME + "{27,60}"),
    ("docker_token", "SWMTKN-1-", r"[a-z0-9]{40,60}-[a-z0-9]{20,30}\b"),
    ("docker_token", "SWMKEY-1-", r"[A-Za-z0-9+/]{43}"),
    *(
        ("doppler_token", f"dp.{kind}.", r"[A-Za-z0-9._-]{40,80}")
        for kind in ("pt", "st", "ct", "sa", "scim", "audit")
    ),
    ("dropbox_token", "sl.B", _NAME + "{100,300}"),
    ("google_token", "1//0", _NAME + "{60,200}"),
    ("instagram_token", "IGQV", r"[A-Za-z0-9_-]{60,300}"),
    ("intra42_secret", "s-s4t2ud-", r"[a-f0-9]{64}\b"),
    ("intra42_secret", "s-s4t2af-", r"[a-f0-9]{64}\b"),
    ("llama_key", "llx-", _WORD + r"{48}\b"),
    ("mailgun_key", "pubkey-", r"[a-f0-9]{32}\b"),
    ("netlify_token", "nfp_", _WORD + r"{36,50}\b"),
    ("newrelic_key", "NRBR-", r"[a-f0-9]{19}\b"),
    ("nkey_seed", "SUA", r"[A-Z2-7]{55}\b"),
    ("onepassword_token", "ops_eyJ", r"[A-Za-z0-9_+/=-]{100,2000}"),
    ("paypal_token", "access_token$production$", r"[a-z0-9]{10,20}\$[a-f0-9]{32}\b"),
    ("postman_key", "PMAT-", r"[A-Z0-9]{26}\b"),
    *(("sonar_token", prefix, r"[a-f0-9]{40}\b") for prefix in ("squ_", "sqp_", "sqa_")),
    ("sourcegraph_token", "sgp_", r"(?:[a-fA-F0-9]{16}_|local_)?[a-fA-F0-9]{40}\b"),
    ("square_token", "EAAA", r"[A-Za-z0-9_-]{56,64}(?![\w-])"),
    ("supabase_key", "sbp_", r"[a-f0-9]{40}\b"),
    ("tavily_key", "tvly-", _NAME + "{30,60}"),
    (
        "teams_webhook",
        "webhook.office.com/webhookb2/",
        r"[a-z0-9-]{36}@[a-z0-9-]{36}/IncomingWebhook/[a-z0-9]{32}/[a-z0-9-]{36}",
    ),
    ("together_key", "tgp_v1_", _NAME + "{40,50}"),
    ("vault_token", "hvr.", _NAME + "{24,300}"),
    *(("vercel_token", prefix, _WORD + r"{40,70}\b") for prefix in ("vcp_", "vci_", "vca_", "vck_")),
    ("wundergraph_key", "cosmo_", r"[a-f0-9]{32}\b"),
    # A private key in Base64 begins with "-----BEGIN" and the first letters of its kind.
    *(
        ("private_key", head, r"[A-Za-z0-9+/=]{100,16384}+")
        for head in ("LS0tLS1CRUdJTiBQUklWQVRF", "LS0tLS1CRUdJTiBSU0EgUFJJ")
    ),
    *(
        ("private_key", head, r"[A-Za-z0-9+/=]{100,16384}+")
        for head in ("LS0tLS1CRUdJTiBFQyBQUklW", "LS0tLS1CRUdJTiBPUEVOU1NI")
    ),
    ("readme_key", "rdme_", r"[a-z0-9]{70}\b"),
    ("prefect_key", "pnu_", _WORD + r"{36}\b"),
    ("facebook_token", "EAACEdEose0cBA", _WORD + r"{20,300}\b"),
    ("pinecone_key", "pcsk_", r"[A-Za-z0-9]{4,8}_[A-Za-z0-9]{40,80}\b"),
    ("langfuse_key", "sk-lf-", r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b"),
    *(("langsmith_key", prefix, r"[0-9a-f]{32}_[0-9a-f]{10}\b") for prefix in ("lsv2_pt_", "lsv2_sk_")),
    ("jina_key", "jina_", _WORD + r"{60}\b"),
    ("cloudflare_token", "v1.0-", r"[a-f0-9]{24}-[a-f0-9]{146}\b"),
    (
        "onepassword_key",
        "A3-",
        r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}\b",
    ),
    # {"auths": in Base64, as in a secret of Kubernetes.
    ("docker_token", "eyJhdXRocyI6", r"[A-Za-z0-9+/=]{30,16384}+"),
    ("typeform_token", "tfp_", r"[A-Za-z0-9_.=-]{40,80}"),
)  # fmt: skip
