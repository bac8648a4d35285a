"""Hand-written tables of everyday facts. Four neighbouring rows become one block.

Rows are ordered so that four neighbours have four different answers of the same kind, none
of which answers a neighbour's question too.
"""

# Pairs of opposites; the words of a line are of the same class.
OPPOSITES = """
hot cold; big small; early late; rich poor
open closed; full empty; hard soft; young old
strong weak; fast slow; wet dry; high low
happy sad; light dark; clean dirty; cheap expensive
true false; near far; thick thin; loud quiet
inside outside; above below; before after; always never
love hate; buy sell; push pull; win lose
arrive leave; remember forget; begin end; laugh cry
accept refuse; attack defend; rise fall; build destroy
give take; break repair; lock unlock; freeze melt
day night; summer winter; friend enemy; success failure
war peace; north south; question answer; top bottom
brother sister; king queen; husband wife; uncle aunt
heaven hell; victory defeat; profit loss; birth death
sweet bitter; safe dangerous; alive dead; wide narrow
brave cowardly; guilty innocent; public private; ancient modern
"""

# Eight members of each category; a block takes one member of four categories.
CATEGORIES = {
    "bird": "robin eagle sparrow owl parrot pigeon penguin swan",
    "fish": "salmon trout tuna shark cod herring carp sardine",
    "tree": "oak pine maple birch willow cedar elm palm",
    "fruit": "apple banana pear grape peach mango cherry lemon",
    "vegetable": "carrot onion cabbage spinach potato broccoli lettuce turnip",
    "metal": "iron gold copper silver tin lead zinc aluminium",
    "insect": "ant bee wasp moth beetle butterfly mosquito fly",
    "flower": "rose tulip daisy lily orchid carnation sunflower daffodil",
    "sport": "tennis football hockey golf rugby basketball cricket volleyball",
    "drink": "coffee tea juice beer wine milk lemonade whisky",
    "vehicle": "car bus lorry van bicycle taxi motorcycle tractor",
    "tool": "hammer saw screwdriver drill wrench axe chisel spade",
    "colour": "red blue yellow green purple grey brown black",
    "language": "French Spanish German Italian Russian Arabic Japanese Dutch",
    "instrument": "piano guitar violin trumpet drum flute harp cello",
    "garment": "shirt coat dress jacket sweater skirt scarf glove",
}

CAPITALS = """
France Paris; Italy Rome; Spain Madrid; Germany Berlin
Japan Tokyo; China Beijing; India New_Delhi; Thailand Bangkok
Russia Moscow; Poland Warsaw; Sweden Stockholm; Norway Oslo
Egypt Cairo; Kenya Nairobi; Morocco Rabat; Ghana Accra
Greece Athens; Portugal Lisbon; Ireland Dublin; Austria Vienna
Peru Lima; Chile Santiago; Argentina Buenos_Aires; Colombia Bogota
Iran Tehran; Iraq Baghdad; Syria Damascus; Lebanon Beirut
Hungary Budapest; Belgium Brussels; Finland Helsinki; Denmark Copenhagen
Cuba Havana; Canada Ottawa; Jamaica Kingston; Venezuela Caracas
Ukraine Kyiv; Romania Bucharest; Serbia Belgrade; Bulgaria Sofia
Vietnam Hanoi; Indonesia Jakarta; Malaysia Kuala_Lumpur; Nepal Kathmandu
Pakistan Islamabad; Afghanistan Kabul; Bangladesh Dhaka; Turkey Ankara
Ethiopia Addis_Ababa; Uganda Kampala; Nigeria Abuja; Zimbabwe Harare
"""

CITIES = """
Mumbai India; Shanghai China; Osaka Japan; Sydney Australia
Barcelona Spain; Milan Italy; Munich Germany; Lyon France
Toronto Canada; Chicago America; Guadalajara Mexico; Medellin Colombia
Manchester England; Glasgow Scotland; Cardiff Wales; Limerick Ireland
Alexandria Egypt; Casablanca Morocco; Lagos Nigeria; Mombasa Kenya
Kolkata India; Karachi Pakistan; Istanbul Turkey; Jeddah Saudi_Arabia
Krakow Poland; Gothenburg Sweden; Bergen Norway; Rotterdam Netherlands
Salzburg Austria; Geneva Switzerland; Antwerp Belgium; Porto Portugal
Kyoto Japan; Busan South_Korea; Surabaya Indonesia; Manila Philippines
Naples Italy; Hamburg Germany; Marseille France; Seville Spain
"""

# The beginning of a sentence, a bar, and the word that ends it.
EVERYDAY = """
People cut paper with | scissors
People eat soup with a | spoon
People hit nails with a | hammer
People sweep the floor with a | broom

People dig holes in the ground with a | shovel
People open a locked door with a | key
People write on paper with a | pen
People tell the time with a | clock

People dry their wet body with a | towel
People look at distant stars through a | telescope
People sew clothes with a | needle
People chop wood with an | axe

People see in the dark with a | torch
People measure temperature with a | thermometer
People wash their hands with | soap
People untangle their hair with a | comb

People boil water in a | kettle
People bake bread in an | oven
People keep food cold in a | fridge
People drink coffee from a | cup

People protect themselves from rain with an | umbrella
People cross a river on a | bridge
People climb onto a roof with a | ladder
People take photographs with a | camera

A person who bakes bread is a | baker
A person who catches fish is a | fisherman
A person who grows crops is a | farmer
A person who flies aeroplanes is a | pilot

A person who teaches children at school is a | teacher
A person who treats sick people is a | doctor
A person who repairs teeth is a | dentist
A person who cuts hair is a | barber

A person who puts out fires is a | firefighter
A person who cooks in a restaurant is a | chef
A person who writes books is an | author
A person who paints pictures is an | artist

A person who makes furniture from wood is a | carpenter
A person who repairs water pipes is a | plumber
A person who sells meat is a | butcher
A person who sews suits is a | tailor

A person who fights in an army is a | soldier
A person who works on a ship is a | sailor
A person who acts in films is an | actor
A person who decides cases in court is a | judge

A person who travels to space is an | astronaut
A person who repairs cars is a | mechanic
A person who sings songs is a | singer
A person who lends books to readers is a | librarian

The colour of grass is | green
The colour of snow is | white
The colour of coal is | black
The colour of blood is | red

The colour of a ripe banana is | yellow
The colour of the clear sky is | blue
The colour of an elephant is | grey
The colour of chocolate is | brown

The colour of a flamingo is | pink
The colour of a carrot is | orange
The colour of a frog is | green
The colour of milk is | white

The colour of the sun is | yellow
The colour of a ripe tomato is | red
The colour of a raven is | black
The colour of the sea is | blue

A young dog is called a | puppy
A young cat is called a | kitten
A young cow is called a | calf
A young sheep is called a | lamb

A young horse is called a | foal
A young goat is called a | kid
A young bear is called a | cub
A young hen is called a | chick

The sound that dogs make is the | bark
The sound that lions make is the | roar
The sound that cats make is the | meow
The sound that ducks make is the | quack

Bread is made from | flour
Cheese is made from | milk
Wine is made from | grapes
Paper is made from | wood

Windows are made of | glass
Tyres are made of | rubber
Shoes are made of | leather
Sweaters are made of | wool

Bees produce | honey
Hens lay | eggs
Sheep give us | wool
Cows give us | milk

When ice gets warm it turns into | water
When water boils it turns into | steam
When wood burns it turns into | ash
When it rains the ground turns into | mud

Someone who is hungry wants to | eat
Someone who is thirsty wants to | drink
Someone who is tired wants to | sleep
Someone who is bored wants to | play

Fish swim in the | sea
Birds fly through the | air
Trees grow in the | forest
Camels live in the | desert

Sick people are cared for in a | hospital
Children learn to read at | school
Trains stop at a | station
Aeroplanes land at an | airport

Books can be borrowed from a | library
Money is kept safe in a | bank
Criminals are locked up in a | prison
Old paintings are shown in a | museum

We see with our | eyes
We hear with our | ears
We smell with our | nose
We bite with our | teeth

We walk on our | feet
We think with our | brain
We taste with our | tongue
We wave with our | hands

The day before Tuesday is | Monday
The day before Saturday is | Friday
The day before Wednesday is | Tuesday
The day before Friday is | Thursday

The month after January is | February
The month after June is | July
The month after September is | October
The month after March is | April

The season of snow is | winter
The season of falling leaves is | autumn
The season of the hottest days is | summer
The season of the first flowers is | spring

A hand has five | fingers
A car has four | wheels
A spider has eight | legs
A bird has two | wings

The king lives in a | palace
The monk lives in a | monastery
The farmer lives on a | farm
The hermit lives in a | cave

Pilots sit in the | cockpit
Cooks work in the | kitchen
Actors stand on the | stage
Prisoners sleep in a | cell

A bird lives in a | nest
A bee lives in a | hive
A dog sleeps in a | kennel
A spider lives in a | web

A person's father's father is his | grandfather
A person's mother's sister is his | aunt
A person's brother's son is his | nephew
A person's brother's daughter is his | niece

To stop a bicycle you pull the | brake
To turn a car you turn the | wheel
To ring at a house you press the | bell
To fire a gun you pull the | trigger

Tennis is played with a | racket
Baseball is played with a | bat
Golf is played with a | club
The violin is played with a | bow

The largest animal in the sea is the | whale
The tallest animal on land is the | giraffe
The king of the jungle is the | lion
The slowest animal in the garden is the | snail
"""

# Base, past, participle and -ing form, all four different.
IRREGULAR_VERBS = """
go went gone going; see saw seen seeing; eat ate eaten eating; drive drove driven driving
write wrote written writing; speak spoke spoken speaking; take took taken taking
give gave given giving; break broke broken breaking; choose chose chosen choosing
fall fell fallen falling; fly flew flown flying; forget forgot forgotten forgetting
grow grew grown growing; know knew known knowing; draw drew drawn drawing
throw threw thrown throwing; ride rode ridden riding; shake shook shaken shaking
steal stole stolen stealing; swim swam swum swimming; sing sang sung singing
drink drank drunk drinking; sink sank sunk sinking; begin began begun beginning
wear wore worn wearing; tear tore torn tearing; bite bit bitten biting
hide hid hidden hiding; freeze froze frozen freezing; wake woke woken waking
do did done doing; ring rang rung ringing; rise rose risen rising; blow blew blown blowing
"""

REGULAR_VERBS = """
walk talk jump cook play work paint clean laugh smile listen sail complain shout wait
help dance climb knock count start finish answer point wander rest push pull
"""
