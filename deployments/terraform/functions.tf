# The three functions, and what they are told by their environment.

locals {
  function_names = { for function in ["auth", "jobs", "worker"] : function => "${var.name}-${function}" }

  # auth: API Gateway waits 10 s for an authorizer. jobs: a request gets 29 s of it, a pass of the due loop its minute.
  timeouts = { auth = 10, jobs = 60, worker = var.worker_timeout }

  # What functions/*.json.tftpl choose from. Empty means not set.
  settings = {
    access_policy         = var.access_policy
    cors_origins          = join(",", var.cors_origins)
    dead_letter_queue_url = aws_sqs_queue.dead_letters.url
    function_timeout      = "${var.worker_timeout}s"
    log_level             = var.log_level
    max_body              = tostring(var.max_body)
    oidc_audience         = join(",", var.oidc_audience)
    oidc_client_ids       = join(",", var.oidc_client_ids)
    oidc_issuer           = var.oidc_issuer
    queue_url             = var.worker_delivery == "sqs" ? aws_sqs_queue.jobs[0].url : ""
    retention             = "${var.retention.finished}h"
    retention_dead        = "${var.retention.dead}h"
    table                 = aws_dynamodb_table.jobs.name
    topic_arn             = aws_sns_topic.jobs.arn
    webhook_allow_private = tostring(var.webhook_allow_private)
    event_jobs = length(var.event_jobs) == 0 ? "" : jsonencode([
      for event in var.event_jobs : { for member, value in event : member => value if value != null }
    ])
    retry_policies = length(var.retry_policies) == 0 ? "" : jsonencode([
      for policy in var.retry_policies : { for member, value in policy : member => value if value != null }
    ])
    # With its version, so that a change reaches running workers: their environment changes too.
    webhooks = local.has_webhooks ? "ssm:${aws_ssm_parameter.webhooks[0].name}:${aws_ssm_parameter.webhooks[0].version}" : ""
  }

  environment = {
    auth   = merge(jsondecode(templatefile("${path.module}/functions/auth.json.tftpl", local.settings)), var.oidc_settings)
    jobs   = jsondecode(templatefile("${path.module}/functions/jobs.json.tftpl", local.settings))
    worker = merge(jsondecode(templatefile("${path.module}/functions/worker.json.tftpl", local.settings)), var.worker_environment)
  }

  # Whether there are webhooks is no secret, what they are is.
  has_webhooks = nonsensitive(length(var.webhooks) > 0)
}

# A SecureString, since a function's environment is readable to whoever may read its configuration, and holds 4 KB.
resource "aws_ssm_parameter" "webhooks" {
  count = local.has_webhooks ? 1 : 0

  name        = "/${var.name}/webhooks"
  description = "WEBHOOKS of ${local.function_names.worker}"
  type        = "SecureString"
  tier        = "Intelligent-Tiering"
  key_id      = local.kms_key_arn
  value       = jsonencode([for hook in var.webhooks : { for member, value in hook : member => value if value != null }])
  tags        = var.tags
}

# Before the functions, or Lambda would make them itself and keep them for ever.
resource "aws_cloudwatch_log_group" "function" {
  for_each = local.function_names

  name              = "/aws/lambda/${each.value}"
  retention_in_days = var.log_retention_days
  tags              = var.tags
}

resource "aws_lambda_function" "function" {
  for_each = local.function_names

  function_name                  = each.value
  description                    = { auth = "jobgate: decides at the gate", jobs = "jobgate: REST API and due loop", worker = "jobgate: runs jobs" }[each.key]
  role                           = aws_iam_role.function[each.key].arn
  filename                       = "${var.packages_dir}/${each.key}.zip"
  source_code_hash               = filebase64sha256("${var.packages_dir}/${each.key}.zip")
  runtime                        = "provided.al2023"
  handler                        = "bootstrap"
  architectures                  = [var.lambda_architecture]
  timeout                        = local.timeouts[each.key]
  memory_size                    = var.memory[each.key]
  reserved_concurrent_executions = var.reserved_concurrency[each.key]
  tags                           = var.tags

  environment {
    variables = { for name, value in local.environment[each.key] : name => value if value != "" }
  }

  tracing_config {
    mode = var.tracing ? "Active" : "PassThrough"
  }

  # A function that runs before its role may log, or read its settings, fails at its first call.
  depends_on = [aws_cloudwatch_log_group.function, aws_iam_role_policy.function]

  lifecycle {
    precondition {
      condition     = length(jsonencode(local.environment[each.key])) <= 4096
      error_message = "The environment of ${each.value} is larger than the 4 KB that Lambda takes: give access_policy as ssm:NAME, or shorten retry_policies or event_jobs."
    }
  }
}

# Ticks are not worth a retry: the next one comes within the minute.
resource "aws_lambda_function_event_invoke_config" "jobs" {
  function_name                = aws_lambda_function.function["jobs"].function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}

# What the worker is called with by a topic, by S3 or by EventBridge. It fails a call only when the store cannot be written.
resource "aws_lambda_function_event_invoke_config" "worker" {
  function_name                = aws_lambda_function.function["worker"].function_name
  maximum_event_age_in_seconds = 21600
  maximum_retry_attempts       = 2

  destination_config {
    on_failure {
      destination = aws_sqs_queue.dead_letters.arn
    }
  }
}
