# What is wrong with an input is said here, in a plan, and not by AWS in the middle of an apply.

# Names and packages

variable "name" {
  description = "Begins the name of everything that is created: several deployments in one account and region need several names."
  type        = string
  default     = "jobgate"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,30}[a-z0-9]$", var.name))
    error_message = "name has 2 to 32 lower-case letters, digits and hyphens, begins with a letter and does not end with a hyphen."
  }
}

variable "tags" {
  description = "Tags of everything that can have them, beside the provider's default_tags."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : length(key) >= 1 && length(key) <= 128 && !startswith(lower(key), "aws:") && length(value) <= 256])
    error_message = "A tag's key has 1 to 128 characters and does not begin with aws:, its value has at most 256."
  }
}

variable "packages_dir" {
  description = "Folder with auth.zip, jobs.zip and worker.zip: dist, where make package writes those for arm64, or dist/amd64."
  type        = string
  nullable    = false

  validation {
    condition     = alltrue([for function in ["auth", "jobs", "worker"] : fileexists("${var.packages_dir}/${function}.zip")])
    error_message = "packages_dir must hold auth.zip, jobs.zip and worker.zip: build them with make package."
  }
}

variable "lambda_architecture" {
  description = "Instruction set of the packages: arm64, or x86_64 for those that were built for amd64."
  type        = string
  default     = "arm64"
  nullable    = false

  validation {
    condition     = contains(["arm64", "x86_64"], var.lambda_architecture)
    error_message = "lambda_architecture is arm64 or x86_64 (which is what AWS calls amd64)."
  }
}

# Tokens and access

variable "oidc_issuer" {
  description = "Issuer of the tokens, byte for byte as in their iss: a closing slash counts."
  type        = string
  nullable    = false

  validation {
    condition = anytrue([
      can(regex("^(?i:https)://([^][:space:]/?#@:{}<>\"\\\\^`|%[]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]*)?(/[^?#{}[:cntrl:]]*)?$", var.oidc_issuer)),
      can(regex("^(?i:http)://((?i:localhost)|127\\.[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}|\\[::1\\])(:[0-9]*)?(/[^?#{}[:cntrl:]]*)?$", var.oidc_issuer)),
    ])
    error_message = "oidc_issuer is the https URL of one issuer, like https://id.example.com/, without query, fragment or {placeholder}; plain http is for loopback hosts only."
  }
}

variable "oidc_audience" {
  description = "Audiences that are accepted, any of them. May be empty when oidc_client_ids is not: Cognito's access tokens have no aud."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(var.oidc_audience) + length(var.oidc_client_ids) > 0
    error_message = "oidc_audience or oidc_client_ids is needed: else tokens that the issuer meant for other services would be accepted."
  }
  validation {
    condition     = alltrue([for audience in var.oidc_audience : can(regex("^[^,[:space:]]+$", audience))])
    error_message = "An element of oidc_audience is one audience, without a comma or a space."
  }
}

variable "oidc_client_ids" {
  description = "Clients that are accepted, any of them; checked beside the audience where a token has one."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for id in var.oidc_client_ids : can(regex("^[^,[:space:]]+$", id))])
    error_message = "An element of oidc_client_ids is one client id, without a comma or a space."
  }
}

variable "oidc_settings" {
  description = "Further settings of the auth function by their names, for instance { OIDC_SCOPE_PREFIX = \"jobgate/\" }."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = length(setsubtract(keys(var.oidc_settings), [
      "OIDC_ACCEPT_ID_TOKENS", "OIDC_ALGORITHMS", "OIDC_JWKS_URL", "OIDC_KEEP_CLAIMS", "OIDC_LEEWAY", "OIDC_MAX_STALE", "OIDC_MAX_TOKEN",
      "OIDC_REFRESH", "OIDC_SCOPE_CLAIMS", "OIDC_SCOPE_PREFIX", "OIDC_TYP",
    ])) == 0
    error_message = "oidc_settings has names of the auth function's settings: OIDC_ACCEPT_ID_TOKENS, OIDC_ALGORITHMS, OIDC_JWKS_URL, OIDC_KEEP_CLAIMS, OIDC_LEEWAY, OIDC_MAX_STALE, OIDC_MAX_TOKEN, OIDC_REFRESH, OIDC_SCOPE_CLAIMS, OIDC_SCOPE_PREFIX, OIDC_TYP."
  }
}

variable "access_policy" {
  description = "Who may do what: JSON, for instance file(\"access-policy.json\"), or ssm:NAME for a parameter that holds it. Empty: by the scopes jobs:submit, jobs:read, jobs:cancel, jobs:redrive and jobs:admin."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = var.access_policy == "" || can(regex("^ssm:[A-Za-z0-9_./+=@-]+(:[A-Za-z0-9_.-]+)?$", var.access_policy)) || can(keys(jsondecode(var.access_policy)))
    error_message = "access_policy is a JSON object like {\"rules\":[…]}, or ssm: and the name of a parameter of Parameter Store."
  }
}

variable "authorizer_type" {
  description = "TOKEN is called with the Authorization header alone, and not at all when that is no bearer token; REQUEST with the whole request."
  type        = string
  default     = "TOKEN"
  nullable    = false

  validation {
    condition     = contains(["TOKEN", "REQUEST"], var.authorizer_type)
    error_message = "authorizer_type is TOKEN or REQUEST."
  }
}

variable "authorizer_ttl" {
  description = "Seconds for which API Gateway uses an authorizer's answer again; 0 asks anew each time. Expiry and deny list are checked behind the gateway all the same."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.authorizer_ttl >= 0 && var.authorizer_ttl <= 3600 && floor(var.authorizer_ttl) == var.authorizer_ttl
    error_message = "authorizer_ttl is a whole number of seconds from 0 to 3600."
  }
}

# API

variable "stage_name" {
  description = "Name of the stage, which is the first segment of the path at API Gateway's own host name."
  type        = string
  default     = "v1"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_-]{1,128}$", var.stage_name))
    error_message = "stage_name has 1 to 128 letters, digits, hyphens and underscores."
  }
}

variable "cors_origins" {
  description = "Origins whose pages may read the answers. A gateway response can name one only: several come to *, never with credentials."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for origin in var.cors_origins : origin == "*" || can(regex("^https?://[a-z0-9.-]+(:[0-9]{1,5})?$", origin))])
    error_message = "An origin is scheme, host and port in lower case and nothing behind them, like https://app.example.com, or *."
  }
}

variable "max_body" {
  description = "Largest body of a request in bytes."
  type        = number
  default     = 245760
  nullable    = false

  validation {
    condition     = var.max_body >= 1 && var.max_body <= 245760 && floor(var.max_body) == var.max_body
    error_message = "max_body is from 1 to 245760 bytes (240 KiB): a job has to fit a message of SNS."
  }
}

variable "throttling" {
  description = "Requests a second and in a burst that each method takes; what is above is answered with 429."
  type = object({
    rate  = optional(number, 100)
    burst = optional(number, 200)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.throttling.rate > 0 && var.throttling.burst >= 1 && floor(var.throttling.burst) == var.throttling.burst
    error_message = "throttling needs a rate above 0 and a whole burst of at least 1: 0 would shut the API."
  }
}

variable "route_throttling" {
  description = "Throttling of single routes, by method and path: { \"POST /jobs\" = { rate = 20, burst = 40 } }."
  type = map(object({
    rate  = number
    burst = number
  }))
  default  = {}
  nullable = false

  validation {
    condition     = length(setsubtract(keys(var.route_throttling), [for route in jsondecode(file("${path.module}/routes.json")) : "${route.method} ${route.path}"])) == 0
    error_message = "route_throttling has keys like \"POST /jobs\": a route of routes.json."
  }
  validation {
    condition     = alltrue([for limit in values(var.route_throttling) : limit.rate >= 0 && limit.burst >= 0 && floor(limit.burst) == limit.burst])
    error_message = "route_throttling needs rates and whole bursts that are not negative; 0 shuts the route."
  }
}

variable "domain" {
  description = "Custom domain name with the ARN of its certificate in the API's region, and the path under it. API Gateway's own host name is shut then. DNS is left to you: see the output domain_target."
  type = object({
    name            = string
    certificate_arn = string
    base_path       = optional(string, "")
  })
  default = null

  validation {
    condition     = var.domain == null ? true : can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain.name))
    error_message = "domain.name is a host name in lower case, like api.example.com."
  }
  validation {
    condition     = var.domain == null ? true : can(regex("^([A-Za-z0-9_~-][A-Za-z0-9._~-]*)?$", var.domain.base_path)) && !contains(["ping", "sping"], var.domain.base_path)
    error_message = "domain.base_path is one segment without slashes, and neither ping nor sping, which API Gateway keeps for itself."
  }
}

variable "access_logs" {
  description = "Whether the stage writes an access log. API Gateway needs its CloudWatch role for that, which an account has once for a region: see api_gateway_account."
  type        = bool
  default     = true
  nullable    = false
}

variable "api_gateway_account" {
  description = "Whether to create API Gateway's CloudWatch role and set it for the whole account and region. Leave it off where another team or stack has done so."
  type        = bool
  default     = false
  nullable    = false
}

# Jobs

variable "retry_policies" {
  description = "How jobs are tried, by name or pattern; what is left out is as the program has it: 10 attempts, 1s doubling to 15m, 30s a run."
  type = list(object({
    jobs     = string
    attempts = optional(number)
    base     = optional(string)
    max      = optional(string)
    timeout  = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for policy in var.retry_policies : can(regex("^([A-Za-z0-9][A-Za-z0-9._:-]{0,127}\\*?|\\*)$", policy.jobs))])
    error_message = "jobs is a job's name, or a pattern that ends in *, like report.*."
  }
  validation {
    condition     = length(distinct(var.retry_policies[*].jobs)) == length(var.retry_policies)
    error_message = "Each name or pattern has one retry policy."
  }
  validation {
    condition     = alltrue([for policy in var.retry_policies : policy.attempts == null ? true : policy.attempts >= 1 && policy.attempts <= 100 && floor(policy.attempts) == policy.attempts])
    error_message = "attempts is a whole number from 1 to 100."
  }
  validation {
    condition     = alltrue(flatten([for policy in var.retry_policies : [for duration in [policy.base, policy.max, policy.timeout] : duration == null ? true : can(regex("^([0-9]+(\\.[0-9]+)?(h|m|s|ms))+$", duration))]]))
    error_message = "base, max and timeout are durations like 500ms, 30s, 1m30s or 2h."
  }
  validation {
    condition = alltrue([for policy in var.retry_policies : sum(concat([10], [
      for part in regexall("([0-9.]+)(h|ms|m|s)", coalesce(policy.timeout, "30s")) : try(tonumber(part[0]), 0) * { h = 3600, m = 60, s = 1, ms = 0.001 }[part[1]]
    ])) <= var.worker_timeout])
    error_message = "A run's timeout and 10 s more have to fit worker_timeout: the worker would never begin such a job."
  }
}

variable "retention" {
  description = "How long finished jobs (succeeded and cancelled) and dead ones can still be asked for, in hours; idempotency keys count as long."
  type = object({
    finished = optional(number, 168)
    dead     = optional(number, 720)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for hours in values(var.retention) : hours >= 1 && floor(hours) == hours])
    error_message = "finished and dead are whole numbers of hours, of at least 1."
  }
}

variable "webhooks" {
  description = "URLs that jobs are posted to, by name or pattern, with the secret that signs them. Kept in a SecureString of Parameter Store, and in Terraform's state."
  type = list(object({
    jobs    = string
    url     = string
    secret  = string
    timeout = optional(string)
  }))
  default   = []
  nullable  = false
  sensitive = true

  validation {
    condition     = alltrue([for hook in var.webhooks : can(regex("^([A-Za-z0-9][A-Za-z0-9._:-]{0,127}\\*?|\\*)$", hook.jobs))]) && length(distinct(var.webhooks[*].jobs)) == length(var.webhooks)
    error_message = "jobs is a job's name, or a pattern that ends in *, like report.*, and each has one webhook."
  }
  validation {
    condition     = alltrue([for hook in var.webhooks : startswith(hook.url, "https://") || (var.webhook_allow_private && startswith(hook.url, "http://"))])
    error_message = "A webhook's url begins with https:// (or with http://, when webhook_allow_private is true)."
  }
  validation {
    condition     = alltrue(flatten([for hook in var.webhooks : [for secret in split(",", hook.secret) : can(regex("^\\s*whsec_[A-Za-z0-9+/=]+\\s*$", secret))]]))
    error_message = "A webhook's secret is whsec_ and base64; two, comma-separated, while rotating."
  }
  validation {
    condition     = length(jsonencode(var.webhooks)) <= 8192
    error_message = "webhooks do not fit a parameter of Parameter Store: 8 KB of JSON at most."
  }
}

variable "webhook_allow_private" {
  description = "Whether webhooks may go to private and loopback addresses."
  type        = bool
  default     = false
  nullable    = false
}

variable "event_jobs" {
  description = "Which jobs other services' events become, tried in order; a * at the end stands for anything. What sends the events, and its permission to call the worker, is yours to add: see Other event sources."
  type = list(object({
    source      = string
    detail_type = optional(string)
    arn         = optional(string)
    job         = string
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for event in var.event_jobs : can(regex("^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$", event.job))])
    error_message = "job in event_jobs is a job's name, like order.placed."
  }
  validation {
    condition     = alltrue(flatten([for event in var.event_jobs : [for pattern in [event.source, event.detail_type, event.arn] : pattern == null ? true : can(regex("^[^*]+\\*?$", pattern))]]))
    error_message = "source, detail_type and arn in event_jobs are not empty, and have a * at their end only."
  }
}

# Worker and its delivery

variable "worker_delivery" {
  description = "sqs: topic to queue to worker, with back-pressure. sns: the topic calls the worker, with at most 3 runs of a message."
  type        = string
  default     = "sqs"
  nullable    = false

  validation {
    condition     = contains(["sqs", "sns"], var.worker_delivery)
    error_message = "worker_delivery is sqs or sns."
  }
}

variable "worker_timeout" {
  description = "Seconds that one call of the worker may take. A job's run gets this less 10 s at most."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.worker_timeout >= 40 && var.worker_timeout <= 900 && floor(var.worker_timeout) == var.worker_timeout
    error_message = "worker_timeout is a whole number of seconds from 40 (a run's default 30 s and 10 s more) to 900, which is Lambda's bound."
  }
}

variable "worker_batch_size" {
  description = "Jobs that one call of the worker gets from the queue at most; they run side by side, and share its memory. Only with worker_delivery sqs."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.worker_batch_size >= 1 && var.worker_batch_size <= 100 && floor(var.worker_batch_size) == var.worker_batch_size
    error_message = "worker_batch_size is a whole number from 1 to 100, which is how many jobs the worker runs side by side."
  }
}

variable "worker_batching_window" {
  description = "Seconds that a batch is waited for. Only with worker_delivery sqs."
  type        = number
  default     = 0
  nullable    = false

  validation {
    condition     = var.worker_batching_window >= 0 && var.worker_batching_window <= 300 && floor(var.worker_batching_window) == var.worker_batching_window
    error_message = "worker_batching_window is a whole number of seconds from 0 to 300."
  }
  validation {
    condition     = var.worker_batch_size <= 10 || var.worker_batching_window >= 1
    error_message = "A worker_batch_size above 10 needs a worker_batching_window of at least 1 second."
  }
}

variable "worker_maximum_concurrency" {
  description = "Calls of the worker that the queue makes at once at most. Only with worker_delivery sqs."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.worker_maximum_concurrency >= 2 && var.worker_maximum_concurrency <= 1000 && floor(var.worker_maximum_concurrency) == var.worker_maximum_concurrency
    error_message = "worker_maximum_concurrency is a whole number from 2 to 1000."
  }
}

variable "queue_max_receive_count" {
  description = "Receives after which SQS moves a message to the dead-letter queue. A backstop, not a count of attempts: throttles and messages that are returned for later are receives too."
  type        = number
  default     = 100
  nullable    = false

  validation {
    condition     = var.queue_max_receive_count >= 100 && var.queue_max_receive_count <= 1000 && floor(var.queue_max_receive_count) == var.queue_max_receive_count
    error_message = "queue_max_receive_count is a whole number from 100 to 1000."
  }
  validation {
    condition     = var.queue_max_receive_count > 3 * max(concat([10], [for policy in var.retry_policies : policy.attempts if policy.attempts != null])...)
    error_message = "queue_max_receive_count has to be above 3 times the most attempts of retry_policies: SQS would dead-letter a job that still has attempts left."
  }
}

variable "worker_environment" {
  description = "Environment of your own handlers in the worker. It is readable to whoever may read the function's configuration: no secrets."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.worker_environment) : can(regex("^[A-Za-z][A-Za-z0-9_]+$", name)) && !startswith(name, "AWS_")])
    error_message = "A name in worker_environment begins with a letter, has letters, digits and underscores, and does not begin with AWS_."
  }
  validation {
    condition     = length(setintersection(keys(var.worker_environment), regexall("[A-Z][A-Z_]+", file("${path.module}/functions/worker.json.tftpl")))) == 0
    error_message = "worker_environment names a setting of the worker itself: it has a variable of this module."
  }
}

# Functions

variable "memory" {
  description = "Memory of the functions in MB; processor time grows with it."
  type = object({
    auth   = optional(number, 256)
    jobs   = optional(number, 256)
    worker = optional(number, 512)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for memory in values(var.memory) : memory >= 128 && memory <= 10240 && floor(memory) == memory])
    error_message = "memory is a whole number of MB from 128 to 10240."
  }
}

variable "reserved_concurrency" {
  description = "Concurrency that is set apart for each function, of which it then gets no more; -1 sets none apart. An account has to keep 100 that are not."
  type = object({
    auth   = optional(number, -1)
    jobs   = optional(number, -1)
    worker = optional(number, -1)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for reserved in values(var.reserved_concurrency) : reserved == -1 || (reserved >= 1 && floor(reserved) == reserved)])
    error_message = "reserved_concurrency is a whole number from 1, or -1: 0 would shut the function."
  }
  validation {
    condition     = var.worker_delivery != "sqs" || var.reserved_concurrency.worker == -1 || var.reserved_concurrency.worker >= var.worker_maximum_concurrency
    error_message = "reserved_concurrency.worker has to be at least worker_maximum_concurrency: the queue polls without regard to it, and what is throttled has been received for nothing."
  }
}

variable "log_level" {
  description = "Level of the functions' logs."
  type        = string
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.log_level)
    error_message = "log_level is debug, info, warn or error."
  }
}

variable "log_retention_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days is a number that CloudWatch Logs has: 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653."
  }
}

variable "tracing" {
  description = "Whether X-Ray traces the API and the functions."
  type        = bool
  default     = false
  nullable    = false
}

variable "permissions_boundary_arn" {
  description = "Policy that bounds what the roles may be given, where your account asks for one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary_arn))
    error_message = "permissions_boundary_arn is the ARN of an IAM policy."
  }
}

# Data

variable "deletion_protection" {
  description = "Whether the table refuses to be deleted. Turn it off, and apply, before a destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "create_kms_key" {
  description = "Whether to create a key, with the policy that SNS needs, for topic, queues, table and parameters. Off, and without kms_key_arn, they are encrypted with keys that AWS owns (the topic is not)."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.create_kms_key || var.kms_key_arn == null
    error_message = "create_kms_key and kms_key_arn exclude each other."
  }
}

variable "kms_key_arn" {
  description = "Key of yours for topic, queues, table and parameters. Its policy has to let SNS use it: see the README."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key_arn == null || can(regex("^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.kms_key_arn))
    error_message = "kms_key_arn is the ARN of a key, not of an alias."
  }
}

# Alarms

variable "alarm_topic_arn" {
  description = "Topic that alarms are sent to. Without one they only change colour."
  type        = string
  default     = null

  validation {
    condition     = var.alarm_topic_arn == null || can(regex("^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}$", var.alarm_topic_arn))
    error_message = "alarm_topic_arn is the ARN of an SNS topic (CloudWatch cannot publish to a FIFO topic)."
  }
}

variable "alarm_thresholds" {
  description = "Above what an alarm goes off: seconds that the oldest message has waited, milliseconds that the slowest hundredth of the authorizer's calls takes, 5xx answers in 5 minutes."
  type = object({
    oldest_message     = optional(number, 900)
    authorizer_latency = optional(number, 3000)
    server_errors      = optional(number, 5)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for threshold in values(var.alarm_thresholds) : threshold >= 0])
    error_message = "alarm_thresholds are not negative."
  }
}
