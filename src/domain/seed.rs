//! What a new tenant starts with: six partnerships as definitions. No KPI has
//! a value and no deliverable any progress until somebody sends one.

use crate::domain::kpi::Direction::{self, HigherIsBetter, LowerIsBetter};

#[derive(Clone, Copy, Debug)]
pub struct SeedPartnership {
    pub id: &'static str,
    /// Other names the routes accept for `id`.
    pub aliases: &'static [&'static str],
    pub name: &'static str,
    pub partner: &'static str,
    /// The partner's `summary.json` in the Statuspage v2 form, if he has one.
    pub status_page_url: Option<&'static str>,
    pub probes: &'static [SeedProbe],
    pub kpis: &'static [SeedKpi],
    pub deliverables: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
pub struct SeedProbe {
    /// Unique within the partnership.
    pub key: &'static str,
    /// Any HTTP answer below 500 to a call without credentials: reachable.
    pub url: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub struct SeedKpi {
    pub name: &'static str,
    /// Above 0, in `unit`.
    pub target: f64,
    pub unit: &'static str,
    pub direction: Direction,
}

const fn kpi(name: &'static str, target: f64, unit: &'static str, direction: Direction) -> SeedKpi {
    SeedKpi { name, target, unit, direction }
}

const fn reachability(url: &'static str) -> SeedProbe {
    SeedProbe { key: "api", url }
}

/// In the order in which the routes list them.
///
/// Google's status pages (AI Studio, Cloud) have a form of their own, and
/// status.x.ai answers machines with a challenge; neither is read.
pub const PARTNERSHIPS: [SeedPartnership; 6] = [
    SeedPartnership {
        id: "cursor_technical",
        aliases: &["technical", "cursor"],
        name: "Technical Excellence",
        partner: "Cursor",
        status_page_url: Some("https://status.cursor.com/api/v2/summary.json"),
        probes: &[reachability("https://api2.cursor.sh/")],
        kpis: &[
            kpi("development_velocity", 40.0, "percent_improvement", HigherIsBetter),
            kpi("system_uptime", 99.9, "percent", HigherIsBetter),
            kpi("api_response_time", 100.0, "ms", LowerIsBetter),
            kpi("security_score", 100.0, "percent", HigherIsBetter),
        ],
        deliverables: &[
            "microservices_architecture",
            "ai_personalization_engine",
            "payment_processing_system",
            "mobile_first_platform",
        ],
    },
    SeedPartnership {
        id: "grok_brand",
        aliases: &["brand", "grok"],
        name: "Brand Amplification",
        partner: "Grok",
        status_page_url: None,
        probes: &[reachability("https://api.x.ai/v1/models")],
        kpis: &[
            kpi("social_engagement", 300.0, "percent_increase", HigherIsBetter),
            kpi("viral_coefficient", 2.5, "users_per_user", HigherIsBetter),
            kpi("brand_sentiment", 85.0, "percent", HigherIsBetter),
            kpi("social_revenue", 25.0, "percent_of_sales", HigherIsBetter),
        ],
        deliverables: &[
            "luxury_brand_positioning_framework",
            "high_engagement_content_library",
            "verified_luxury_influencer_network",
            "social_commerce_integration",
        ],
    },
    SeedPartnership {
        id: "gemini_visual",
        aliases: &["visual", "gemini"],
        name: "Visual Intelligence",
        partner: "Gemini",
        status_page_url: None,
        probes: &[reachability("https://generativelanguage.googleapis.com/v1beta/models")],
        kpis: &[
            kpi("visual_search_accuracy", 95.0, "percent", HigherIsBetter),
            kpi("session_duration", 60.0, "percent_increase", HigherIsBetter),
            kpi("conversion_rate", 35.0, "percent_boost", HigherIsBetter),
            kpi("user_satisfaction", 4.8, "of_5", HigherIsBetter),
        ],
        deliverables: &[
            "visual_search_system",
            "virtual_try_on_technology",
            "personalized_style_recommendations",
            "ar_shopping_experiences",
        ],
    },
    SeedPartnership {
        id: "chatgpt_customer",
        aliases: &["customer", "chatgpt"],
        name: "Customer Excellence",
        partner: "ChatGPT",
        status_page_url: Some("https://status.openai.com/api/v2/summary.json"),
        probes: &[reachability("https://api.openai.com/v1/models")],
        kpis: &[
            kpi("customer_satisfaction", 90.0, "percent", HigherIsBetter),
            kpi("support_efficiency", 50.0, "percent_reduction", HigherIsBetter),
            kpi("average_order_value", 40.0, "percent_increase", HigherIsBetter),
            kpi("first_contact_resolution", 95.0, "percent", HigherIsBetter),
        ],
        deliverables: &[
            "intelligent_chatbot",
            "shopping_assistant",
            "automated_content_system",
            "omnichannel_journey_optimization",
        ],
    },
    SeedPartnership {
        id: "claude_strategic",
        aliases: &["strategic", "claude"],
        name: "Strategic Command",
        partner: "Claude",
        status_page_url: Some("https://status.claude.com/api/v2/summary.json"),
        probes: &[reachability("https://api.anthropic.com/v1/models")],
        kpis: &[
            kpi("decision_adoption_rate", 80.0, "percent", HigherIsBetter),
            kpi("decision_accuracy", 85.0, "percent", HigherIsBetter),
        ],
        deliverables: &["quarterly_strategy_review"],
    },
    SeedPartnership {
        id: "perplexity_research",
        aliases: &["research", "perplexity"],
        name: "Market Research",
        partner: "Perplexity",
        status_page_url: Some("https://status.perplexity.com/api/v2/summary.json"),
        probes: &[reachability("https://api.perplexity.ai/")],
        kpis: &[
            kpi("citation_accuracy", 95.0, "percent", HigherIsBetter),
            kpi("research_turnaround", 24.0, "hours", LowerIsBetter),
        ],
        deliverables: &["market_intelligence_digest"],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::probe_url::{LoopbackPolicy, ProbeUrl};

    #[test]
    fn the_partnerships_of_the_contract() {
        let table = PARTNERSHIPS.map(|p| {
            (p.id, p.aliases.join(", "), p.name, p.partner, p.kpis.len(), p.deliverables.len())
        });
        let row = |id, aliases: &str, name, partner, kpis, deliverables| {
            (id, aliases.to_owned(), name, partner, kpis, deliverables)
        };
        assert_eq!(
            table,
            [
                row(
                    "cursor_technical",
                    "technical, cursor",
                    "Technical Excellence",
                    "Cursor",
                    4,
                    4
                ),
                row("grok_brand", "brand, grok", "Brand Amplification", "Grok", 4, 4),
                row("gemini_visual", "visual, gemini", "Visual Intelligence", "Gemini", 4, 4),
                row(
                    "chatgpt_customer",
                    "customer, chatgpt",
                    "Customer Excellence",
                    "ChatGPT",
                    4,
                    4
                ),
                row("claude_strategic", "strategic, claude", "Strategic Command", "Claude", 2, 1),
                row(
                    "perplexity_research",
                    "research, perplexity",
                    "Market Research",
                    "Perplexity",
                    2,
                    1
                ),
            ]
        );
    }

    #[test]
    fn no_name_is_used_twice() {
        let names: Vec<_> =
            PARTNERSHIPS.iter().flat_map(|p| p.aliases.iter().copied().chain([p.id])).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        for partnership in &PARTNERSHIPS {
            let kpis: BTreeSet<_> = partnership.kpis.iter().map(|kpi| kpi.name).collect();
            assert_eq!(kpis.len(), partnership.kpis.len(), "{}", partnership.id);
            let deliverables: BTreeSet<_> = partnership.deliverables.iter().collect();
            assert_eq!(deliverables.len(), partnership.deliverables.len(), "{}", partnership.id);
            let probes: BTreeSet<_> = partnership.probes.iter().map(|probe| probe.key).collect();
            assert_eq!(probes.len(), partnership.probes.len(), "{}", partnership.id);
        }
    }

    #[test]
    fn only_the_two_durations_are_better_low_and_all_targets_are_above_0() {
        let kpis = || PARTNERSHIPS.iter().flat_map(|p| p.kpis);
        let low: Vec<_> = kpis().filter(|kpi| kpi.direction == LowerIsBetter).collect();
        let low: Vec<_> = low.iter().map(|kpi| (kpi.name, kpi.target, kpi.unit)).collect();
        assert_eq!(
            low,
            [("api_response_time", 100.0, "ms"), ("research_turnaround", 24.0, "hours")]
        );
        assert!(kpis().all(|kpi| kpi.target > 0.0));
    }

    #[test]
    fn every_seeded_url_passes_the_policy_for_probes() {
        for partnership in &PARTNERSHIPS {
            assert!(!partnership.probes.is_empty(), "{}", partnership.id);
            let probes = partnership.probes.iter().map(|probe| probe.url);
            for url in probes.chain(partnership.status_page_url) {
                let parsed = ProbeUrl::parse(url, LoopbackPolicy::Refused);
                assert_eq!(parsed.map(|parsed| parsed.to_string()), Ok(url.to_owned()));
            }
        }
    }
}
