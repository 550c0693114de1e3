# What each function may do, and no more. The actions on the table are those that adapters/dynamodb calls; a transaction
# needs the permissions of the writes in it.

data "aws_iam_policy_document" "assume_lambda" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

# IAM knows no regions: with the region in their names, deployments in two of them do not collide.
resource "aws_iam_role" "function" {
  for_each = local.function_names

  name                 = "${each.value}-${local.region}"
  description          = "Runs the Lambda function ${each.value}"
  assume_role_policy   = data.aws_iam_policy_document.assume_lambda.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy" "function" {
  for_each = local.function_names

  name = "function"
  role = aws_iam_role.function[each.key].name
  policy = {
    auth   = data.aws_iam_policy_document.function["auth"].json
    jobs   = data.aws_iam_policy_document.jobs.json
    worker = data.aws_iam_policy_document.worker.json
  }[each.key]
}

data "aws_iam_policy_document" "jobs" {
  source_policy_documents = [data.aws_iam_policy_document.function["jobs"].json]

  statement {
    sid       = "Items"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
    resources = [aws_dynamodb_table.jobs.arn]
  }

  statement {
    sid       = "Lists"
    actions   = ["dynamodb:Query"]
    resources = [for index in ["agenda", "all", "owner"] : "${aws_dynamodb_table.jobs.arn}/index/${index}"]
  }

  statement {
    sid       = "Dispatch"
    actions   = ["sns:Publish"]
    resources = [aws_sns_topic.jobs.arn]
  }

  dynamic "statement" {
    for_each = local.encrypt_with_kms ? [local.kms_key_arn] : []

    content {
      sid       = "TableAndMessages"
      actions   = local.key_actions
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["dynamodb.${local.region}.amazonaws.com", "sns.${local.region}.amazonaws.com"]
      }
    }
  }
}

data "aws_iam_policy_document" "worker" {
  source_policy_documents = [data.aws_iam_policy_document.function["worker"].json]

  statement {
    sid       = "Items"
    actions   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
    resources = [aws_dynamodb_table.jobs.arn]
  }

  statement {
    sid       = "DeadLetters"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.dead_letters.arn]
  }

  dynamic "statement" {
    for_each = aws_sqs_queue.jobs

    content {
      sid       = "Queue"
      actions   = ["sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"]
      resources = [statement.value.arn]
    }
  }

  dynamic "statement" {
    for_each = local.encrypt_with_kms ? [local.kms_key_arn] : []

    content {
      sid       = "TableAndMessages"
      actions   = local.key_actions
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["dynamodb.${local.region}.amazonaws.com", "sqs.${local.region}.amazonaws.com"]
      }
    }
  }
}

# What all three need.

locals {
  region = split(":", aws_dynamodb_table.jobs.arn)[3]

  # DynamoDB, SNS and SQS use the key in the name of who calls them
  # (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/encryption.usagenotes.html).
  key_actions = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey", "kms:ReEncryptFrom", "kms:ReEncryptTo"]

  # The parameter that access_policy names, without version or label; and the secret behind it, if it is one of Secrets
  # Manager's, whose ARN ends in a hyphen and six characters of AWS's choosing.
  parameters   = [for name in [var.access_policy] : trimprefix(split(":", name)[1], "/") if startswith(name, "ssm:")]
  secrets_path = "aws/reference/secretsmanager/"
  secret_arns = [
    for name in local.parameters : "${local.secret_prefix}${trimprefix(name, local.secrets_path)}-??????" if startswith(name, local.secrets_path)
  ]
  parameter_arns = { for function in keys(local.function_names) : function => concat(
    [for name in local.parameters : "${local.parameter_prefix}${name}"],
    function == "worker" ? aws_ssm_parameter.webhooks[*].arn : [],
  ) }

  arn_middle       = "${local.region}:${data.aws_caller_identity.current.account_id}"
  parameter_prefix = "arn:${data.aws_partition.current.partition}:ssm:${local.arn_middle}:parameter/"
  secret_prefix    = "arn:${data.aws_partition.current.partition}:secretsmanager:${local.arn_middle}:secret:"
}

data "aws_iam_policy_document" "function" {
  for_each = local.function_names

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.function[each.key].arn}:*"]
  }

  dynamic "statement" {
    for_each = var.tracing ? [1] : []

    content {
      sid       = "Traces"
      actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
      resources = ["*"] # X-Ray has no ARN for a segment
    }
  }

  dynamic "statement" {
    for_each = length(local.parameter_arns[each.key]) > 0 ? [local.parameter_arns[each.key]] : []

    content {
      sid       = "Parameters"
      actions   = ["ssm:GetParameters"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = length(local.secret_arns) > 0 ? [local.secret_arns] : []

    content {
      sid       = "Secrets"
      actions   = ["secretsmanager:GetSecretValue"]
      resources = statement.value
    }
  }

  dynamic "statement" {
    for_each = local.encrypt_with_kms ? [local.kms_key_arn] : []

    content {
      sid       = "DecryptParameters"
      actions   = ["kms:Decrypt"]
      resources = [statement.value]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = ["ssm.${local.region}.amazonaws.com"]
      }
    }
  }
}

# API Gateway's own role, which an account has once for a region.

data "aws_iam_policy_document" "assume_api_gateway" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["apigateway.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "api_gateway" {
  count = var.api_gateway_account ? 1 : 0

  name                 = "${var.name}-api-gateway-logs-${local.region}"
  description          = "Lets API Gateway write to CloudWatch Logs, for the whole account and region"
  assume_role_policy   = data.aws_iam_policy_document.assume_api_gateway.json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = var.tags
}

resource "aws_iam_role_policy_attachment" "api_gateway" {
  count = var.api_gateway_account ? 1 : 0

  role       = aws_iam_role.api_gateway[0].name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonAPIGatewayPushToCloudWatchLogs"
}

resource "aws_api_gateway_account" "this" {
  count = var.api_gateway_account ? 1 : 0

  cloudwatch_role_arn = aws_iam_role.api_gateway[0].arn

  depends_on = [aws_iam_role_policy_attachment.api_gateway]
}
