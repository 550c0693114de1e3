# From the topic to the worker.
#
# worker_delivery sqs: topic → queue → worker. A message that SNS cannot deliver goes to the queue undelivered, one that
# is received too often to dead_letters.
# worker_delivery sns: topic → worker. A message that Lambda does not take goes to undelivered, one whose calls all fail
# to dead_letters.
# Either way the worker itself sends what it gives up to dead_letters, with the reason as attributes.

locals {
  topic_name       = "${var.name}-jobs"
  fourteen_days    = 1209600
  queue_encryption = local.kms_key_arn == null
}

resource "aws_sns_topic" "jobs" {
  name              = local.topic_name
  kms_master_key_id = local.kms_key_arn
  tags              = var.tags
}

resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-dead-letters"
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = local.queue_encryption ? true : null
  kms_master_key_id         = local.kms_key_arn
  tags                      = var.tags
}

resource "aws_sqs_queue" "undelivered" {
  name                      = "${var.name}-undelivered"
  message_retention_seconds = local.fourteen_days
  sqs_managed_sse_enabled   = local.queue_encryption ? true : null
  kms_master_key_id         = local.kms_key_arn
  tags                      = var.tags
}

data "aws_iam_policy_document" "undelivered" {
  statement {
    sid       = "FromTheTopic"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.undelivered.arn]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_sns_topic.jobs.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "undelivered" {
  queue_url = aws_sqs_queue.undelivered.url
  policy    = data.aws_iam_policy_document.undelivered.json
}

# worker_delivery sqs

resource "aws_sqs_queue" "jobs" {
  count = var.worker_delivery == "sqs" ? 1 : 0

  name                      = "${var.name}-jobs"
  message_retention_seconds = local.fourteen_days
  # Six times the function's timeout, and the window, as AWS advises
  # (https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html).
  visibility_timeout_seconds = 6 * var.worker_timeout + var.worker_batching_window
  sqs_managed_sse_enabled    = local.queue_encryption ? true : null
  kms_master_key_id          = local.kms_key_arn
  tags                       = var.tags

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letters.arn
    maxReceiveCount     = var.queue_max_receive_count
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letters" {
  count = var.worker_delivery == "sqs" ? 1 : 0

  queue_url = aws_sqs_queue.dead_letters.url
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.jobs[0].arn]
  })
}

data "aws_iam_policy_document" "jobs_queue" {
  count = var.worker_delivery == "sqs" ? 1 : 0

  statement {
    sid       = "FromTheTopic"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.jobs[0].arn]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_sns_topic.jobs.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "jobs" {
  count = var.worker_delivery == "sqs" ? 1 : 0

  queue_url = aws_sqs_queue.jobs[0].url
  policy    = data.aws_iam_policy_document.jobs_queue[0].json
}

resource "aws_sns_topic_subscription" "queue" {
  count = var.worker_delivery == "sqs" ? 1 : 0

  topic_arn            = aws_sns_topic.jobs.arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.jobs[0].arn
  raw_message_delivery = true
  redrive_policy       = jsonencode({ deadLetterTargetArn = aws_sqs_queue.undelivered.arn })

  # A client error, and a missing permission is one, is not tried again: the permissions come first.
  depends_on = [aws_sqs_queue_policy.jobs, aws_sqs_queue_policy.undelivered]
}

resource "aws_lambda_event_source_mapping" "queue" {
  count = var.worker_delivery == "sqs" ? 1 : 0

  event_source_arn                   = aws_sqs_queue.jobs[0].arn
  function_name                      = aws_lambda_function.function["worker"].arn
  batch_size                         = var.worker_batch_size
  maximum_batching_window_in_seconds = var.worker_batching_window
  function_response_types            = ["ReportBatchItemFailures"]

  scaling_config {
    maximum_concurrency = var.worker_maximum_concurrency
  }
}

# worker_delivery sns

resource "aws_lambda_permission" "topic" {
  count = var.worker_delivery == "sns" ? 1 : 0

  statement_id  = "topic"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.function["worker"].function_name
  principal     = "sns.amazonaws.com"
  source_arn    = aws_sns_topic.jobs.arn
}

resource "aws_sns_topic_subscription" "worker" {
  count = var.worker_delivery == "sns" ? 1 : 0

  topic_arn      = aws_sns_topic.jobs.arn
  protocol       = "lambda"
  endpoint       = aws_lambda_function.function["worker"].arn
  redrive_policy = jsonencode({ deadLetterTargetArn = aws_sqs_queue.undelivered.arn })

  depends_on = [aws_lambda_permission.topic, aws_sqs_queue_policy.undelivered]
}
