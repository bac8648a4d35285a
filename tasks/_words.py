"""Word lists of the character and copying tasks."""

from _draw import split_words

# An ending and the first letters that make a word of it. Words of one ending differ in one
# letter, so telling them apart takes knowledge of their letters.
ENDINGS = {
    "ake": "bclmtwrf", "all": "bcfhmtwg", "ell": "bfstcwyd", "ill": "bfhkmptw",
    "ing": "krsw", "old": "bcfghstm", "and": "bhls", "ind": "bfkm", "end": "blms",
    "ook": "bchl", "ool": "cfpt", "oat": "bcgm", "ear": "dfhntwyb", "eat": "bhms",
    "eal": "dmrs", "ead": "hlrd", "ain": "gmpr", "ail": "fhjmnrst", "ame": "cfgn",
    "ate": "dglm", "ave": "cgsw", "ane": "clmp", "ine": "dflmnpvw", "ide": "hrst",
    "ice": "dmnr", "ike": "bhlp", "ire": "fhtw", "ile": "fmpt", "ome": "cdhs",
    "one": "bcdt", "ore": "bcms", "ose": "hlnr", "ope": "hrcd", "ole": "hmpr",
    "oke": "jwpc", "ock": "dlrs", "ack": "bprs", "ick": "klps", "uck": "dlts",
    "ank": "brst", "ink": "lpsw", "ump": "bdjl", "amp": "cdlr", "ust": "bdjm",
    "est": "bnrt", "ast": "cflp", "ost": "chlm", "ent": "brst", "art": "cdpt",
    "ark": "bdmp", "ard": "chly", "orn": "bcht", "eed": "fnsd", "eep": "djkw",
    "eel": "fhpr", "oom": "bdrl", "oot": "bfhr", "own": "dgtm", "ash": "cdwr",
    "ush": "bhpr", "ang": "bghr", "ong": "lstg", "are": "bcdf", "age": "cprw",
    "ace": "flpr", "ape": "ctgn", "ure": "clps", "aid": "lmpr", "oil": "bcfs",
    "our": "fhps",
}  # fmt: skip

# A letter that stands exactly three times in the word.
WORDS_WITH_THREE = {
    "a": "banana papaya pajamas cassava",
    "b": "bubble",
    "c": "accuracy",
    "d": "daddy added",
    "e": "cheese eleven degree freeze sneeze breeze between sentence",
    "g": "giggle baggage luggage suggesting",
    "i": "visiting finishing division infinite initial civilian",
    "l": "parallel lullaby",
    "m": "mammal mummy",
    "n": "nineteen",
    "o": "tomorrow cocoon monopoly",
    "p": "puppet pepper poppy pineapple",
    "r": "horror mirror error terror carrier warrior",
    "s": "sisters lessons stress success glasses classes dresses business discuss",
    "t": "attempt statement institute tattoo",
    "u": "unusual",
}

COMMON_WORDS = split_words("""
airport animal answer apple april arrow artist autumn basket battle beach beard bedroom
bicycle blanket border bottle branch bread breakfast brick bridge brother brush bucket
butter button cabbage cabin camera candle captain carpet castle chair chalk cheek cherry
chicken church circle client cloud coach coast coffee copper corner cotton country cousin
crowd crown dance danger daughter desert dinner doctor donkey dragon dream driver eagle
earth editor effect engine evening factor family farmer father feather field finger flame
flower forest friend frost fruit garden ginger glass glove grain grass ground guest guitar
hammer harbour health heart helmet holiday honey horse hotel house hunter insect island
jacket jungle kettle kitchen knife ladder lawyer leader leather lemon letter light lizard
lunch machine magnet manager market master meadow metal middle minute money monkey month
morning mother motor mountain mouse mouth muscle museum music napkin nation nature needle
nephew night north novel number nurse ocean office onion orange oven owner oyster package
palace panel paper parent parrot party pencil people person phone piano picnic picture
pigeon pillow pilot planet plant plastic plate pocket poem police potato powder present
prince prison purple puzzle queen question rabbit radio railway river robot rocket saddle
salad school science season second shadow sheep shelf shirt shoulder silver singer sister
smoke snake soldier spider spoon spring square stable station steam stone storm story
street student sugar summer supper table tailor teacher temple thunder ticket tiger tongue
towel tower traffic train travel treasure triangle tunnel turkey uncle valley vessel village
violin voice wagon water weather wheat wheel whistle window winter wizard woman wood worker
writer yellow yogurt zebra
""")

# Short words by script; a text to copy is one to five of them.
SCRIPT_WORDS = {
    "greek": "νερό φως γη σπίτι μέρα ψωμί ήλιος δρόμος",
    "cyrillic": "вода дом свет хлеб день река снег лес",
    "arabic": "ماء نور بيت خبز يوم نهر قمر بحر",
    "hebrew": "מים אור בית לחם יום נהר ירח ים",
    "devanagari": "जल घर दिन नदी वन फल मन",
    "thai": "น้ำ บ้าน วัน ไฟ ป่า ดาว",
    "japanese": "みず いえ ひかり やま かわ ネコ イヌ",
    "chinese": "水 光 家 日 河 山 月 海 花",
    "korean": "물 빛 집 날 강 산 달 꽃",
    "emoji": "🍎 🚗 🌞 🐱 🎵 ⚽ 🌊 🏠 🌵 🐟",
    "emoji_zwj": "👩‍💻 👨‍🍳 👩‍🚀 👨‍🌾 👩‍🎨 👨‍🔧 👩‍🏫 👨‍🚒 ❤️‍🔥 🏳️‍🌈",
}
